// plugin_counters -- what is counted of sessions and mails, from many threads, and that Prometheus can read it.
#include <Net/SMTP/Server/Plugins/Counters.hpp>
#include <cmath>
#include <map>
#include <set>

#include "crowd.hpp"
#include "over_tls.hpp"
#include "toy_authenticator.hpp"

using namespace test;

namespace {

Setup counted(const Counters& counters, Setup s = {}) {
    s.listeners = [counters, before = s.listeners](Server& server) {
        if (before) before(server);
        counters.listen(server.pipeline());
    };
    return s;
}

const std::string greeting = "S: 220\nC: EHLO me\nS: 250\n";
const std::string envelope = "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\n";
const std::string text = "C: DATA\nS: 354\nC: Subject: x\nC:\nC: hello\nC: .\n";
const std::string quit = "C: QUIT\nS: 221\nS: EOF";

using Labels = std::map<std::string, std::string>;
struct Sample {
    std::string name;
    Labels labels;
    double value;
};
struct Metric {
    std::string type, help;
    std::vector<Sample> samples;
    double only() const {
        REQUIRE(samples.size() == 1);
        return samples[0].value;
    }
    double of(const std::string& label, const std::string& value) const {
        for (const auto& s : samples)
            if (const auto found = s.labels.find(label); found != s.labels.end() && found->second == value)
                return s.value;
        return -1;
    }
};

bool name_char(char c, bool first) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == ':' || (!first && c >= '0' && c <= '9');
}

// A reader of the text format 0.0.4 that forgives nothing.
class Reader {
public:
    explicit Reader(std::string_view page) : text_(page) {
        REQUIRE(!text_.empty());
        REQUIRE(text_.back() == '\n');
        while (!text_.empty()) metric();
    }
    std::map<std::string, Metric> metrics;

private:
    std::string_view line() {
        const auto end = text_.find('\n');
        const auto one = text_.substr(0, end);
        text_.remove_prefix(end + 1);
        return one;
    }
    static std::string word(std::string_view& from) {
        std::string out;
        while (!from.empty() && name_char(from.front(), out.empty())) out += from.front(), from.remove_prefix(1);
        REQUIRE(!out.empty());
        return out;
    }
    static void skip(std::string_view& from, std::string_view expected) {
        REQUIRE(from.substr(0, expected.size()) == expected);
        from.remove_prefix(expected.size());
    }
    static std::string quoted(std::string_view& from) {
        std::string out;
        for (skip(from, "\""); from.at(0) != '"'; from.remove_prefix(1)) {
            if (from[0] == '\\') {
                from.remove_prefix(1);
                const bool known = from.at(0) == '\\' || from[0] == '"' || from[0] == 'n';
                REQUIRE(known);
                out += from[0] == 'n' ? '\n' : from[0];
            } else {
                out += from[0];
            }
        }
        skip(from, "\"");
        return out;
    }
    void metric() {
        auto help = line();
        skip(help, "# HELP ");
        const auto name = word(help);
        CHECK(!metrics.contains(name));
        auto& m = metrics[name];
        skip(help, " ");
        m.help = help;
        auto type = line();
        skip(type, "# TYPE " + name + ' ');
        m.type = type;
        CHECK(std::set<std::string>{"counter", "gauge", "histogram"}.contains(m.type));
        if (m.type == "counter") CHECK(name.ends_with("_total"));
        std::set<std::pair<std::string, Labels>> seen;
        while (!text_.empty() && text_.front() != '#') {
            m.samples.push_back(sample(line()));
            const auto& s = m.samples.back();
            CHECK(s.name.starts_with(name));
            const auto suffix = s.name.substr(name.size());
            if (m.type == "histogram") CHECK(std::set<std::string>{"_bucket", "_sum", "_count"}.contains(suffix));
            else CHECK(suffix.empty());
            CHECK(seen.insert({s.name, s.labels}).second);
        }
        if (m.type == "histogram") check_histogram(m);
    }
    static Sample sample(std::string_view one) {
        Sample s{word(one), {}, 0};
        if (!one.empty() && one[0] == '{') {
            for (skip(one, "{");; skip(one, ",")) {
                const auto label = word(one);
                skip(one, "=");
                CHECK(s.labels.emplace(label, quoted(one)).second);
                if (one.at(0) == '}') break;
            }
            skip(one, "}");
        }
        skip(one, " ");
        std::size_t used = 0;
        s.value = std::stod(std::string(one), &used);
        CHECK(used == one.size());
        return s;
    }
    // Buckets grow to +Inf, which is the count.
    static void check_histogram(const Metric& m) {
        double last_bound = -1, last = 0, sum = -1, count = -1;
        for (const auto& s : m.samples) {
            if (s.name.ends_with("_sum")) sum = s.value;
            if (s.name.ends_with("_count")) count = s.value;
            if (!s.name.ends_with("_bucket")) continue;
            const auto& le = s.labels.at("le");
            const double bound = le == "+Inf" ? INFINITY : std::stod(le);
            CHECK(bound > last_bound);
            CHECK(s.value >= last);
            last_bound = bound;
            last = s.value;
        }
        CHECK(std::isinf(last_bound));
        CHECK(count == last);
        CHECK(sum >= 0);
    }
    std::string_view text_;
};

}  // namespace

TEST_CASE("sessions, mails, octets and refusals are counted") {
    const Counters counters;
    auto setup = counted(counters);
    setup.handler = [n = 0](Server::Client& c) mutable {
        if (++n == 2) c.reject({554, "5.7.1", "No"});
        else c.accept();
    };
    dialogue(greeting + envelope + text + "S: 250\n" + envelope + text +
                 "S: 554\nC: XYZZY\nS: 500\nC: XYZZY\nS: 500\n" + envelope + "C: RSET\nS: 250\n" + quit,
             setup);
    dialogue("S: 220\n", setup);
    const auto n = counters.snapshot();
    CHECK(n.sessions == 2);
    CHECK(n.sessions_now == 0);
    CHECK(n.mails_accepted == 1);
    CHECK(n.mails_refused == 1);
    CHECK(n.mails_dropped == 1);
    CHECK(n.bytes == 42);
    CHECK(n.refusals == std::map<int, std::uint64_t>{{500, 2}, {554, 1}});
    CHECK(n.session_time.count() == 2);
    CHECK(n.answer_time.count() == 2);
    CHECK(n.troubles == 0);
}

TEST_CASE("a session that is under way is counted as one that is") {
    const Counters counters;
    Talk talk(counted(counters));
    talk.play(greeting);
    CHECK(counters.snapshot().sessions_now == 1);
    CHECK(counters.snapshot().sessions == 1);
    talk.play(quit);
    talk.end();
    CHECK(counters.snapshot().sessions_now == 0);
    CHECK(counters.snapshot().sessions == 1);
}

TEST_CASE("TLS, logins and trouble are counted") {
    const Counters counters;
    auto setup = counted(counters, authenticating());
    setup.options.tls = acceptor();
    setup.program = [](Server::Client& c) {
        while (c.process()) c.accept();
    };
    setup.listeners = [before = setup.listeners](Server& s) {
        s.on<Event::Arrived>([](Event::Arrived&) { throw std::runtime_error("oh"); });
        before(s);
    };
    dialogue_over_tls("C: EHLO me\nS: 250\nC: " + plain(wrong) + "\nS: 535\nC: " + plain() + "\nS: 235\n" + envelope +
                          text + "S: 451\n" + quit,
                      setup);
    {
        Talk talk(setup);
        talk.play(starttls);
        talk.wire.send("this is no handshake\r\n");
        talk.end();
    }
    const auto n = counters.snapshot();
    CHECK(n.tls_sessions == 1);
    CHECK(n.tls_failures == 1);
    CHECK(n.auth_failures == 1);
    CHECK(n.auth_successes == 1);
    CHECK(n.troubles == 1);
    CHECK(n.mails_refused == 1);
    CHECK(n.refusals == std::map<int, std::uint64_t>{{451, 1}, {535, 1}});
}

TEST_CASE("Prometheus can read it: the same numbers, with names, types and labels as its format has them") {
    const Counters counters;
    Reader before(counters.prometheus());  // with nothing in it
    CHECK(before.metrics.at("smtp_sessions_total").only() == 0);
    CHECK(before.metrics.at("smtp_refusals_total").samples.empty());
    dialogue(greeting + "C: XYZZY\nS: 500\n" + envelope + text + "S: 250\n" + quit, counted(counters));
    const std::string strange = "mx \"1\"\\\n";
    for (const auto& server : {std::string(), strange}) {
        const Reader reader(counters.prometheus("mail.9", server));
        const auto& m = reader.metrics;
        CHECK(m.size() == 11);
        CHECK(m.at("mail_9_sessions_open").type == "gauge");
        CHECK(m.at("mail_9_sessions_open").only() == 0);
        CHECK(m.at("mail_9_sessions_total").only() == 1);
        CHECK(m.at("mail_9_mails_total").of("end", "accepted") == 1);
        CHECK(m.at("mail_9_mails_total").of("end", "refused") == 0);
        CHECK(m.at("mail_9_received_bytes_total").only() == 21);
        CHECK(m.at("mail_9_refusals_total").of("code", "500") == 1);
        CHECK(m.at("mail_9_troubles_total").only() == 0);
        CHECK(m.at("mail_9_answer_seconds").of("le", "+Inf") == 1);
        for (const auto& [name, metric] : m)
            for (const auto& s : metric.samples) {
                CHECK(s.labels.contains("server") == !server.empty());
                if (!server.empty()) CHECK(s.labels.at("server") == strange);
            }
    }
    CHECK(counters.prometheus("9").starts_with("# HELP _9_"));
    CHECK(counters.prometheus("").starts_with("# HELP sessions_open "));
}

TEST_CASE("20 clients are counted to the last one, while somebody looks") {
    const Counters counters;
    RunningServer running({}, [&](Server& s) {
        s.on<Event::Rcpt>([](Event::Rcpt& e) {
            if (e.recipient.local == "no") e.reply = {550, "5.1.1", "Nobody"};
        });
        counters.listen(s.pipeline());
    });
    std::atomic<bool> over{false};
    Background looking([&] {
        while (!over) {
            CHECK(counters.snapshot().sessions <= 20);
            counters.prometheus();
            std::this_thread::yield();
        }
    });
    crowd(running.server, [](Wire& wire, int) {
        for (int n = 0; n < 5; ++n) send_mail(wire, "a@b", {"c@d"}, {"no@d"});
    });
    running.server.stop();
    running.thread.join();
    over = true;
    looking.join();
    const auto n = counters.snapshot();
    CHECK(n.sessions == 20);
    CHECK(n.sessions_now == 0);
    CHECK(n.mails_accepted == 100);
    CHECK(n.bytes == 300);
    CHECK(n.refusals == std::map<int, std::uint64_t>{{550, 100}});
    CHECK(n.session_time.count() == 20);
    CHECK(n.answer_time.count() == 100);
    CHECK(Reader(counters.prometheus()).metrics.at("smtp_mails_total").of("end", "accepted") == 100);
}
