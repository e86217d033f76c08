#include "Counters.hpp"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <numeric>
#include <utility>

#include "../Event.hpp"
#include "../Reply.hpp"
#include "Watch.hpp"

namespace Net::SMTP {

namespace {

using Clock = Watch::Clock;

// Nobody waits for anybody: each number is right, and no two of them need be of one moment.
class Number {
public:
    void add(std::uint64_t n = 1) { n_.fetch_add(n, std::memory_order_relaxed); }
    std::uint64_t get() const { return n_.load(std::memory_order_relaxed); }

private:
    std::atomic<std::uint64_t> n_{0};
};

class Times {
public:
    void add(Clock::duration took) {
        const auto& bounds = Counters::Histogram::bounds;
        const double seconds = std::chrono::duration<double>(took).count();
        buckets_[std::size_t(std::ranges::lower_bound(bounds, seconds) - bounds.begin())].add();
        microseconds_.add(std::uint64_t(std::max(0.0, seconds * 1e6)));
    }
    Counters::Histogram get() const {
        Counters::Histogram h;
        std::ranges::transform(buckets_, h.buckets.begin(), &Number::get);
        h.sum = double(microseconds_.get()) / 1e6;
        return h;
    }

private:
    std::array<Number, Counters::Histogram::bounds.size() + 1> buckets_{};
    Number microseconds_;
};

constexpr int least_code = 400, codes = 200;

// ---- Prometheus ----

std::string metric_name(std::string_view prefix) {
    const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == ':'; };
    std::string out;
    for (const char c : prefix) {
        const bool digit = c >= '0' && c <= '9';
        if (digit && out.empty()) out += '_';
        out += letter(c) || digit ? c : '_';
    }
    return out.empty() ? out : out + '_';
}

std::string escaped(std::string_view value) {
    std::string out;
    for (const char c : value) {
        if (c == '\n') out += "\\n";
        else if (c == '"' || c == '\\') (out += '\\') += c;
        else out += c;
    }
    return out;
}

// The shortest that reads as the same number, in any locale.
std::string text(double number) {
    char out[32];
    return {out, std::to_chars(out, out + sizeof out, number).ptr};
}

class Exposition {
public:
    Exposition(std::string_view prefix, std::string_view server) : prefix_(metric_name(prefix)) {
        if (!server.empty()) common_ = "server=\"" + escaped(valid_utf8(server) ? server : "?") + '"';
    }
    void begin(std::string_view name, std::string_view type, std::string_view help) {
        name_ = prefix_ + std::string(name);
        out_.append("# HELP ").append(name_).append(" ").append(help);
        out_.append("\n# TYPE ").append(name_).append(" ").append(type).append("\n");
    }
    void sample(const std::string& value, std::string_view label = "", std::string_view suffix = "") {
        out_.append(name_).append(suffix);
        if (!common_.empty() || !label.empty()) {
            out_.append("{").append(common_).append(common_.empty() || label.empty() ? "" : ",");
            out_.append(label).append("}");
        }
        out_.append(" ").append(value).append("\n");
    }
    void sample(std::uint64_t value, std::string_view label = "") { sample(std::to_string(value), label); }
    void counter(std::string_view name, std::string_view help, std::uint64_t value) {
        begin(name, "counter", help);
        sample(value);
    }
    void histogram(std::string_view name, std::string_view help, const Counters::Histogram& h) {
        begin(name, "histogram", help);
        std::uint64_t so_far = 0;
        for (std::size_t i = 0; i < h.buckets.size(); ++i) {
            so_far += h.buckets[i];
            const auto le = i < h.bounds.size() ? text(h.bounds[i]) : "+Inf";
            sample(std::to_string(so_far), "le=\"" + le + '"', "_bucket");
        }
        sample(text(h.sum), "", "_sum");
        sample(std::to_string(so_far), "", "_count");
    }
    std::string end() && { return std::move(out_); }

private:
    const std::string prefix_;
    std::string common_, name_, out_;
};

}  // namespace

struct Counters::Numbers {
    void count(const Watch::Mail&);
    void count(const Watch::Session&);
    void count(const Reply& reply) {
        if (reply.code >= least_code && reply.code < least_code + codes)
            refusals[std::size_t(reply.code - least_code)].add();
    }

    // Sessions begun, as told last: one that ends meanwhile is for a moment neither among those under way nor those
    // over.
    std::uint64_t begun(std::uint64_t seen) {
        auto last = told.load();
        while (last < seen && !told.compare_exchange_weak(last, seen)) {
        }
        return std::max(last, seen);
    }

    std::atomic<std::uint64_t> told{0};
    Number sessions{}, accepted{}, refused{}, dropped{}, bytes{};
    Number auth_successes{}, auth_failures{}, tls_sessions{}, tls_failures{}, troubles{}, swallowed{};
    std::array<Number, codes> refusals{};
    Times session_time{}, answer_time{};
};

void Counters::Numbers::count(const Watch::Mail& mail) {
    auto& verdict = mail.taken > 0 ? accepted : mail.verdict.code != 0 ? refused : dropped;
    verdict.add();
    bytes.add(mail.size);
    if (mail.arrived != Clock::time_point()) answer_time.add(mail.ended - mail.arrived);
}

void Counters::Numbers::count(const Watch::Session& session) {
    sessions.add();
    session_time.add(session.ended - session.began);
}

std::uint64_t Counters::Histogram::count() const {
    return std::accumulate(buckets.begin(), buckets.end(), std::uint64_t{0});
}

Counters::Counters()
    : numbers_(std::make_shared<Numbers>()),
      watch_({.mail = [n = numbers_](const Watch::Session&, const Watch::Mail& m) { n->count(m); },
              .session = [n = numbers_](const Watch::Session& s) { n->count(s); }}) {}

std::vector<Pipeline::Listener> Counters::listen(Pipeline& pipeline) const {
    auto all = watch_.listen(pipeline);
    const auto n = numbers_;
    all.push_back(pipeline.on<Event::Response>([n](Event::Response& e) {
        if (e.swallow) n->swallowed.add();
        else n->count(e.reply);
    }));
    all.push_back(pipeline.on<Event::Auth>(
        [n](Event::Auth& e) { (e.reply.positive() ? n->auth_successes : n->auth_failures).add(); }));
    all.push_back(
        pipeline.on<Event::TLS>([n](Event::TLS& e) { (e.problem.empty() ? n->tls_sessions : n->tls_failures).add(); }));
    all.push_back(pipeline.on<Event::Trouble>([n](Event::Trouble&) { n->troubles.add(); }));
    return all;
}

Counters::Snapshot Counters::snapshot() const {
    auto& s = *numbers_;
    Snapshot out;
    out.sessions_now = watch_.sessions();
    out.sessions = s.begun(out.sessions_now + s.sessions.get());
    out.mails_accepted = s.accepted.get();
    out.mails_refused = s.refused.get();
    out.mails_dropped = s.dropped.get();
    out.bytes = s.bytes.get();
    for (int i = 0; i < codes; ++i)
        if (const auto n = s.refusals[std::size_t(i)].get()) out.refusals[least_code + i] = n;
    out.auth_successes = s.auth_successes.get();
    out.auth_failures = s.auth_failures.get();
    out.tls_sessions = s.tls_sessions.get();
    out.tls_failures = s.tls_failures.get();
    out.troubles = s.troubles.get();
    out.swallowed = s.swallowed.get();
    out.session_time = s.session_time.get();
    out.answer_time = s.answer_time.get();
    return out;
}

std::string Counters::prometheus(std::string_view prefix, std::string_view server) const {
    const auto n = snapshot();
    Exposition e(prefix, server);
    e.begin("sessions_open", "gauge", "Sessions under way.");
    e.sample(n.sessions_now);
    e.counter("sessions_total", "Sessions that have begun.", n.sessions);
    e.begin("mails_total", "counter", "Mails by what became of them.");
    e.sample(n.mails_accepted, "end=\"accepted\"");
    e.sample(n.mails_refused, "end=\"refused\"");
    e.sample(n.mails_dropped, "end=\"dropped\"");
    e.counter("received_bytes_total", "Octets of messages received.", n.bytes);
    e.begin("refusals_total", "counter", "Replies of 4xx and 5xx by code.");
    for (const auto& [code, times] : n.refusals) e.sample(times, "code=\"" + std::to_string(code) + '"');
    e.begin("auth_total", "counter", "Attempts to authenticate.");
    e.sample(n.auth_successes, "result=\"success\"");
    e.sample(n.auth_failures, "result=\"failure\"");
    e.begin("tls_handshakes_total", "counter", "TLS handshakes.");
    e.sample(n.tls_sessions, "result=\"success\"");
    e.sample(n.tls_failures, "result=\"failure\"");
    e.counter("troubles_total", "Events of trouble.", n.troubles);
    e.counter("swallowed_replies_total", "Replies that a plugin or listener has kept from clients.", n.swallowed);
    e.histogram("session_seconds", "How long sessions took.", n.session_time);
    e.histogram("answer_seconds", "How long senders waited for the answer to a text.", n.answer_time);
    return std::move(e).end();
}

}  // namespace Net::SMTP
