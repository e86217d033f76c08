// What AUTH does in a session (RFC 4954).
#include <string.h>

#include <algorithm>
#include <utility>

#include "Base64.hpp"
#include "Client.hpp"
#include "Event.hpp"
#include "Shared.hpp"

namespace Net::SMTP {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t longest_name = 20;          // RFC 4422 3.1
constexpr std::size_t longest_response = 12'288;  // RFC 4954 4: octets of base64
constexpr std::size_t longest_command = std::string_view("AUTH  \r\n").size() + longest_name + longest_response;
constexpr int most_steps = 20;

// One text for whatever is wrong with a name or a password.
const Reply invalid{535, "5.7.8", "Authentication credentials invalid"};
const Reply later{454, "4.7.0", "Temporary authentication failure"};
const Reply used_up{454, "4.7.0", "Too many failed authentications, try again later"};
const Reply not_implemented{502, "5.5.1", "Command not implemented"};
const Reply syntax{501, "5.5.4", "Syntax: AUTH mechanism [initial-response]"};
const Reply undecodable{501, "5.5.2", "Cannot decode base64"};
const Reply line_too_long{500, "5.5.6", "Authentication exchange line is too long"};

bool control(char c) { return static_cast<unsigned char>(c) < 32 || c == 127; }
bool blank(char c) { return c == ' ' || control(c); }

// What a client calls itself, for a log.
std::string presentable(std::string name) {
    constexpr std::size_t enough = 255;
    std::ranges::replace_if(name, control, '?');
    return name.size() > enough ? name.substr(0, enough) : name;
}

bool valid_name(std::string_view name) {
    const auto fits = [](char c) { return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_'; };
    return !name.empty() && name.size() <= longest_name && std::ranges::all_of(name, fits);
}

bool loopback(const Endpoint& peer) {
    static const Networks networks("127.0.0.0/8 ::1");
    return networks.contains(peer);
}

// What a client said, overwritten when it is no longer needed.
struct Secret {
    std::string octets;
    Secret() = default;
    Secret(const Secret&) = delete;
    Secret& operator=(const Secret&) = delete;
    ~Secret() { wipe(); }
    void wipe() {
        explicit_bzero(octets.data(), octets.size());
        octets.clear();
    }
};

}  // namespace

struct Server::Client::Attempt {
    std::string mechanism;
    bool initial = false;  // there was an initial response
    bool given = false;    // `response` is the next one
    Secret response;
    Reply refusal{};                         // of what the client has said last, if not positive
    Clock::time_point heard = Clock::now();  // when it said that

    // A guess is told nothing before auth_delay is over, and counts against its address: an attempt that failed after
    // the mechanism had seen something of the client. Cancelling or hanging up does not undo it, since some mechanisms
    // tell by a challenge that it was wrong (RFC 7628 3.2.2). What is no fault of the client's is none.
    bool guess = false;
    bool counted = false;
    bool lost = false;  // nobody is there to be answered
    std::string user, proved, reason;

    void read(std::string_view argument);
    void respond(std::string_view text);
};

// "PLAIN", "PLAIN =" or "PLAIN base64".
void Server::Client::Attempt::read(std::string_view argument) {
    const auto end = std::min(argument.find(' '), argument.size());
    for (char c : argument.substr(0, end)) mechanism += c >= 'a' && c <= 'z' ? char(c - 'a' + 'A') : c;
    initial = given = end < argument.size();
    const auto text = argument.substr(initial ? end + 1 : end);
    if (!valid_name(mechanism) || std::ranges::any_of(text, blank)) refusal = syntax;
    else if (text != "=") respond(text);  // which is an empty one
}

void Server::Client::Attempt::respond(std::string_view text) {
    response.wipe();
    if (text.size() > longest_response) refusal = line_too_long;
    else if (!base64_decode(text, response.octets)) refusal = undecodable;
}

bool Server::Client::ask_authenticator(const std::function<void()>& question) {
    try {
        question();
        return true;
    } catch (const std::exception& e) {
        trouble(e.what());
    } catch (...) {
        trouble("an authenticator threw an exception of an unknown type");
    }
    return false;
}

// ---- where and when ----

Channel Server::Client::channel() const {
    return {tls(), [this](std::string_view type) { return connection_.channel_binding(type); }, peer(),
            shared_->options.hostname};
}

std::vector<std::string> Server::Client::auth_offer() {
    const auto& o = shared_->options;
    const bool clear =
        o.clear_auth == ClearAuth::everywhere || (o.clear_auth == ClearAuth::loopback && loopback(peer()));
    if (!o.auth || !user_.empty() || (!tls() && !clear)) return {};
    std::vector<std::string> mechanisms;
    ask_authenticator([&] { mechanisms = o.auth->mechanisms(channel()); });
    std::erase_if(mechanisms, [](const auto& name) { return !valid_name(name); });
    return mechanisms;
}

Reply Server::Client::may_authenticate() {
    const auto& o = shared_->options;
    if (!o.auth) return not_implemented;
    if (phase_ == Phase::start || !esmtp_) return {503, "5.5.1", lmtp_ ? "LHLO first" : "EHLO first"};
    if (!user_.empty()) return {503, "5.5.1", "Already authenticated"};
    if (phase_ != Phase::ready) return {503, "5.5.1", "Not within a transaction"};
    if (!auth_offer().empty()) return {};
    if (!tls() && o.tls && connection_.can_encrypt()) return {538, "5.7.11", "Encryption required"};
    return not_implemented;
}

std::size_t Server::Client::line_limit() const {
    const auto& limit = shared_->options.max_command_line;
    return offer_.auth && user_.empty() && phase_ == Phase::ready ? std::max(limit, longest_command) : limit;
}

bool Server::Client::too_long(std::string_view line) const {
    return line.size() + 2 > shared_->options.max_command_line && Command::parse(line).verb != Verb::AUTH;
}

// ---- an attempt ----

Server::Client::Answer Server::Client::auth(std::string_view argument) {
    const auto& o = shared_->options;
    Attempt attempt;
    attempt.read(argument);
    connection_.wipe();  // `argument` has been there
    if (auto refusal = may_authenticate(); !refusal.positive()) return refusal;
    if (attempt.refusal == syntax) return syntax;
    if (o.auth_failures > 0 && auth_failures_ >= o.auth_failures)
        return Reply{421, "4.7.0", o.hostname + " Too many failed authentications"};
    if (shared_->auth_failures.over(peer().host, Clock::now())) {
        attempt.reason = "too many failures of this address";
        return conclude_auth(attempt, used_up);
    }
    return conclude_auth(attempt, exchange(attempt));
}

Reply Server::Client::exchange(Attempt& attempt) {
    if (!attempt.refusal.positive()) return attempt.reason = "not decodable", attempt.refusal;
    Reply verdict{504, "5.5.4", "Unrecognized authentication type"};
    attempt.reason = "no such mechanism";
    const bool fine = ask_authenticator([&] {
        const auto here = channel();
        const auto exchange = shared_->options.auth->begin(attempt.mechanism, here);
        if (exchange) verdict = steps(attempt, *exchange);
    });
    if (fine) return verdict;
    attempt.reason = "the mechanism has thrown an exception";
    attempt.guess = false;
    return later;
}

Reply Server::Client::steps(Attempt& attempt, AuthExchange& exchange) {
    using Is = AuthExchange::Step::Is;
    if (attempt.initial && !exchange.client_first()) {
        attempt.reason = "an initial response where the server speaks first";
        return {501, "5.7.0", "The mechanism has no initial response"};
    }
    for (int n = 0; n < most_steps; ++n) {
        attempt.guess |= attempt.given;
        auto step =
            exchange.step(attempt.given ? std::optional<std::string_view>(attempt.response.octets) : std::nullopt);
        attempt.response.wipe();
        if (!step.user.empty()) attempt.user = std::move(step.user);
        attempt.proved = presentable(std::move(step.proved));
        attempt.reason = std::move(step.reason);
        if (step.is == Is::failure) return invalid;
        if (step.is == Is::later) return attempt.guess = false, later;
        const bool asks = step.is == Is::challenge || !step.data.empty();
        // A challenge may tell already whether the guess was right.
        const bool wrong = step.is == Is::challenge && !attempt.reason.empty();
        if (asks && attempt.guess && !may_tell(attempt, !wrong))
            return attempt.reason = "too many failures of this address", used_up;
        if (asks && !challenge(attempt, step.data)) return attempt.refusal;
        if (step.is == Is::challenge) continue;
        // RFC 4422 3.6, RFC 4954 4: data that comes with success is a challenge, and its response is empty.
        if (asks && !attempt.response.octets.empty())
            return attempt.reason = "a response to what comes with success", Reply{501, "5.5.2", "Nothing was asked"};
        return {235, "2.7.0", "Authentication successful"};
    }
    attempt.reason = "too many steps";
    return invalid;
}

bool Server::Client::challenge(Attempt& attempt, std::string_view data) {
    using Got = Connection::Got;
    const auto& o = shared_->options;
    const auto refuse = [&](Reply reply, const char* reason) {
        attempt.refusal = std::move(reply);
        attempt.reason = reason;
        return false;
    };
    // What is here already was said before the question: a command that was pipelined behind AUTH, against RFC 2920
    // 3.1, or nobody knows what. It is no response; each line of it has its own answer, as a command.
    if (connection_.readable() && !connection_.peer_gone())
        return refuse({503, "5.5.1", "A response before it was asked for"}, "a response before it was asked for");

    connection_.out().append("334 ").append(base64_encode(data)).append("\r\n");
    std::string_view line;
    const int wake =
        std::exchange(connection_.wake_fd, -1);  // others' replies do not belong between challenge and response
    const auto got =
        connection_.read_line(line, longest_response + 2, deadline(o.command_timeout), o.lenient.lf_commands, true);
    connection_.wake_fd = wake;
    attempt.heard = Clock::now();
    attempt.given = true;
    if (got == Got::data) attempt.respond(line);
    const bool cancelled = got == Got::data && line == "*";
    connection_.wipe();
    switch (got) {
        case Got::end: attempt.lost = true; return refuse({421, "4.4.2", "Connection lost"}, "the connection was lost");
        case Got::timeout: return refuse({421, "4.4.2", o.hostname + " Timeout, closing connection"}, "timeout");
        case Got::stopped:
            attempt.guess = false;
            return refuse({421, "4.3.2", o.hostname + " Service shutting down"}, "the server stops");
        case Got::too_long: return refuse(line_too_long, "a response that is too long");
        case Got::data:
        case Got::woken: break;
    }
    if (cancelled) return refuse({501, "5.7.0", "Authentication cancelled"}, "cancelled");
    return attempt.refusal.positive() || refuse(attempt.refusal, "not decodable");
}

// Whatever an attempt has come to is heard by the listeners, counted and, if it was a guess, delayed.
Server::Client::Answer Server::Client::conclude_auth(Attempt& attempt, Reply reply) {
    const auto& o = shared_->options;
    attempt.response.wipe();
    const bool told = !attempt.guess || may_tell(attempt, reply.positive());
    if (!told && (reply.positive() || reply == invalid)) {
        attempt.reason = "too many failures of this address";
        reply = used_up;
    }
    const auto verdict = reply;
    if (!verdict.positive()) attempt.user = presentable(std::move(attempt.user));
    Event::Auth event(*this, attempt.mechanism, attempt.user, attempt.proved, attempt.reason, reply);
    show(event);
    if (verdict.positive() && reply.positive()) return admit(attempt, reply);
    if (reply.positive()) reply = verdict;  // a listener can't let in whom the mechanism refuses
    if (verdict.positive()) {
        attempt.guess = true;
        may_tell(attempt, false);
    }
    // What is wrong with the dialogue alone counts as any other wrong command does: Options::max_errors.
    if (attempt.guess || verdict.temporary()) ++auth_failures_;
    if (attempt.guess && !attempt.lost) {
        const auto until = std::min(attempt.heard + o.auth_delay, session_end());
        attempt.lost = !connection_.flush(deadline(o.command_timeout)) || !connection_.pause(until);
    }
    if (!attempt.lost) return reply;
    ended_ = true;
    connection_.close();
    return std::nullopt;
}

Reply Server::Client::admit(Attempt& attempt, const Reply& reply) {
    if (attempt.user.empty() || std::ranges::any_of(attempt.user, control)) {
        trouble("a mechanism names nobody who can be a user: " + presentable(attempt.user));
        ++auth_failures_;
        return later;
    }
    user_ = std::move(attempt.user);
    mechanism_ = std::move(attempt.mechanism);
    trace_.reset();
    return {235, "2.7.0", reply.text};
}

// Other sessions of an address may have guessed meanwhile: all of them together are not told more than its limit.
bool Server::Client::may_tell(Attempt& attempt, bool success) {
    auto& failures = shared_->auth_failures;
    const auto now = Clock::now();
    if (success) return !failures.over(peer().host, now);
    if (!attempt.counted) attempt.counted = failures.note(peer().host, now);
    return attempt.counted;
}

// ---- the AUTH parameter of MAIL ----

// RFC 4954 5: of who is not trusted with it, it is discarded.
void Server::Client::believe(Sender& sender) {
    bool trusted = false;
    if (sender.auth && !user_.empty()) ask_authenticator([&] { trusted = shared_->options.auth->trusted(user_); });
    if (sender.auth && !trusted) sender.auth = "";
}

}  // namespace Net::SMTP
