#include "Transcript.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <mutex>
#include <ostream>

#include "../Client.hpp"
#include "../Command.hpp"
#include "../Event.hpp"
#include "LogText.hpp"
#include "PerSession.hpp"

namespace Net::SMTP {

namespace {

constexpr std::size_t longest = 1000;  // octets of theirs in a line
constexpr std::string_view hidden = "***";

constexpr std::array<std::string_view, 17> mechanisms{
    "PLAIN",         "LOGIN",
    "CRAM-MD5",      "DIGEST-MD5",
    "SCRAM-SHA-1",   "SCRAM-SHA-1-PLUS",
    "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-512", "SCRAM-SHA-512-PLUS",
    "XOAUTH2",       "OAUTHBEARER",
    "EXTERNAL",      "ANONYMOUS",
    "GSSAPI",        "NTLM",
    "GS2-KRB5",
};

bool blank(char c) { return static_cast<unsigned char>(c) <= 32 || c == 127; }

std::size_t skip(std::string_view line, std::size_t at, bool blanks) {
    while (at < line.size() && blank(line[at]) == blanks) ++at;
    return at;
}

// Where the word AUTH ends that begins the line, npos: it does not.
std::size_t after_auth(std::string_view line) {
    constexpr std::string_view word = "AUTH";
    const auto begin = skip(line, 0, true);
    return same_text(line.substr(begin, word.size()), word) ? begin + word.size() : line.npos;
}

// How much of it is no secret.
std::size_t harmless(std::string_view line) {
    const auto verb = after_auth(line);
    if (verb == line.npos) return line.size();
    const auto begin = skip(line, verb, true), end = skip(line, begin, false);
    const auto mechanism = line.substr(begin, end - begin);
    const bool known =
        begin > verb && std::ranges::any_of(mechanisms, [&](auto name) { return same_text(name, mechanism); });
    return known ? end : verb;
}

std::string now() { return log_time(std::chrono::system_clock::now()); }

}  // namespace

struct Transcript::State {
    explicit State(Write w) : write(std::move(w)) {}
    Write write;
    struct Course {
        bool begun = false;
        bool secret = false;  // after AUTH: what is no command may be a response to a challenge
    };
    PerSession<Course> courses{};

    Course& of(Server::Client&);
    void say(std::string_view id, std::string_view who, std::string_view what) const noexcept;
    void say(const Server::Client& client, std::string_view who, std::string_view what) const noexcept {
        say(client.id(), who, what);
    }
    void next_hop(std::string_view session, std::string_view host, std::string_view line) const;
    void tls(Event::TLS&);
    void command(Event::Command&);
    void response(Event::Response&);
    void disconnect(Event::Disconnect&);
};

void Transcript::State::say(std::string_view id, std::string_view who, std::string_view what) const noexcept {
    try {
        auto line = now();
        line.reserve(line.size() + id.size() + who.size() + what.size() + 3);
        line.append(" ").append(id).append(" ").append(who).append(" ").append(what);
        write(line);
    } catch (...) {
    }
}

void Transcript::State::next_hop(std::string_view session, std::string_view host, std::string_view line) const {
    const auto word = [](std::string_view text) { return text.empty() ? "-" : log_text(text, longest, " "); };
    say(word(session), word(host), log_text(line, longest));
}

// Whatever is heard of a session first comes behind its beginning.
Transcript::State::Course& Transcript::State::of(Server::Client& client) {
    auto& course = courses[client];
    if (!std::exchange(course.begun, true))
        say(client, "--",
            "connect from " + log_text(client.peer().str(), longest) + " to " +
                log_text(client.local().str(), longest));
    return course;
}

void Transcript::State::tls(Event::TLS& e) {
    of(e.client);
    if (!e.problem.empty()) return say(e.client, "--", "TLS failed: " + log_text(e.problem, longest));
    const auto* tls = e.client.tls();
    if (!tls) return;
    auto what = tls->version + ' ' + tls->cipher;
    if (!tls->server_name.empty()) what += " for " + log_text(tls->server_name, longest);
    if (tls->peer) what += " with certificate " + tls->peer->fingerprint;
    say(e.client, "--", "TLS is " + what);
}

void Transcript::State::command(Event::Command& e) {
    auto& course = of(e.client);
    const bool auth = after_auth(e.line) != std::string::npos;
    const bool known = Command::parse(e.line).verb != Verb::unknown;
    if (auth || known) course.secret = auth;
    say(e.client, "C:", course.secret && !auth ? std::string(hidden) : shown(e.line));
}

void Transcript::State::response(Event::Response& e) {
    auto& course = of(e.client);
    if (e.reply.code == 235) course.secret = false;
    const auto& c = e.client;
    const auto& o = c.options();
    const bool statuses = o.protocol == Protocol::lmtp || (c.esmtp() ? c.offered() : o.offer).enhanced_status_codes;
    std::string wire;
    e.reply.append_to(wire, statuses);
    const std::string_view who = e.swallow ? "S (not sent):" : "S:";
    for (std::size_t begin = 0, end; (end = wire.find("\r\n", begin)) != wire.npos; begin = end + 2)
        say(c, who, log_text(std::string_view(wire).substr(begin, end - begin), longest));
}

void Transcript::State::disconnect(Event::Disconnect& e) {
    of(e.client);
    say(e.client, "--", e.last.code == 0 ? "disconnect: the connection was lost" : "disconnect");
    courses.end(e.client);
}

Transcript::Transcript(Write write) : state_(std::make_shared<State>(std::move(write))) {}

Transcript::Transcript(std::FILE* file)
    : Transcript([file](std::string_view line) {
          const auto whole = std::string(line) + '\n';
          std::fwrite(whole.data(), 1, whole.size(), file);
          std::fflush(file);
      }) {}

Transcript::Transcript(std::ostream& stream)
    : Transcript([&stream, mutex = std::make_shared<std::mutex>()](std::string_view line) {
          const std::lock_guard lock(*mutex);
          stream << line << '\n' << std::flush;
      }) {}

std::vector<Pipeline::Listener> Transcript::listen(Pipeline& pipeline) const {
    const auto s = state_;
    const auto octets = [](std::uint64_t n) { return std::to_string(n) + " octets"; };
    return {
        pipeline.on<Event::Connect>([s](Event::Connect& e) { s->of(e.client); }),
        pipeline.on<Event::TLS>([s](Event::TLS& e) { s->tls(e); }),
        pipeline.on<Event::Command>([s](Event::Command& e) { s->command(e); }),
        pipeline.on<Event::Arrived>([s, octets](Event::Arrived& e) {
            s->of(e.client);
            s->say(e.client, "--", "message " + e.client.MSG.id() + ", " + octets(e.client.MSG.size()));
        }),
        pipeline.on<Event::Response>([s](Event::Response& e) { s->response(e); }),
        pipeline.on<Event::Disconnect>([s](Event::Disconnect& e) { s->disconnect(e); }),
    };
}

std::function<void(std::string_view, std::string_view, std::string_view)> Transcript::next_hops() const {
    return [s = state_](std::string_view session, std::string_view host, std::string_view line) {
        s->next_hop(session, host, line);
    };
}

std::string Transcript::shown(std::string_view command) {
    const auto end = harmless(command);
    auto out = log_text(command.substr(0, end), longest);
    if (skip(command, end, true) < command.size()) (out += ' ') += hidden;
    return out;
}

}  // namespace Net::SMTP
