// SessionSecurity -- how a Session encrypts what it says, and logs in, before it speaks of a mail.
#include <string.h>

#include <algorithm>
#include <cctype>
#include <deque>
#include <exception>
#include <stdexcept>

#include "../Server/Base64.hpp"
#include "Session.hpp"

namespace Net::SMTP {

namespace {

using Level = ClientTLS::Level;

constexpr std::size_t longest_command = 512;      // RFC 5321 4.5.3.1.4, with its CRLF
constexpr std::size_t longest_response = 12'288;  // RFC 4954 4
constexpr std::size_t shortest_secret = 4;        // what is shorter counts only where it is a word
constexpr std::size_t telling = 8;                // what begins with so much of a secret tells it
constexpr int most_challenges = 20;

void wipe(std::string& text) {
    text.resize(text.capacity());
    explicit_bzero(text.data(), text.size());
    text.clear();
}

// A string that leaves nothing behind.
struct Secret : std::string {
    Secret() = default;
    ~Secret() { wipe(*this); }
    Secret(const Secret&) = delete;
    Secret& operator=(const Secret&) = delete;
};

// Takes the first part off `text`, which any of `separators` ends.
std::string_view take_part(std::string_view& text, std::string_view separators) {
    const auto part = text.substr(0, text.find_first_of(separators));
    text.remove_prefix(std::min(part.size() + 1, text.size()));
    return part;
}
constexpr std::string_view between_parts("\0\1", 2);  // in PLAIN and in OAUTHBEARER

bool has_word(std::string_view text, std::string_view word) {
    const auto apart = [&](std::size_t at) {
        return at >= text.size() || !isalnum(static_cast<unsigned char>(text[at]));
    };
    for (auto at = text.find(word); at != text.npos; at = text.find(word, at + 1))
        if ((at == 0 || apart(at - 1)) && apart(at + word.size())) return true;
    return false;
}

}  // namespace

// What we have said of ourselves in one exchange, so that it can't come back in somebody's words.
class Session::Secrets {
public:
    explicit Secrets(std::string user) : user_(std::move(user)) {}
    // The response in base64, good as long as this; null if there is none.
    const std::string* add(std::optional<std::string> response);
    // Whether the text holds some of it, in clear or not: a word, or how it begins where it was cut off. The user's
    // name alone does not count.
    bool in(std::string_view text) const;

private:
    const Secret& keep(std::string text);
    bool tells(std::string_view part, std::string_view text) const;
    bool name(std::string_view part) const { return part == user_ || part == encoded_user_; }

    const std::string user_, encoded_user_ = base64_encode(user_);
    std::deque<Secret> all_;
};

const Secret& Session::Secrets::keep(std::string text) {
    auto& kept = all_.emplace_back();
    kept.swap(text);
    wipe(text);  // short strings are copied
    return kept;
}

const std::string* Session::Secrets::add(std::optional<std::string> response) {
    if (!response) return nullptr;
    const auto& clear = keep(std::move(*response));
    wipe(*response);
    for (std::string_view rest = clear; !rest.empty();)
        if (const auto part = take_part(rest, between_parts); part != clear && !name(part)) keep(base64_encode(part));
    return &keep(base64_encode(clear));
}

bool Session::Secrets::in(std::string_view text) const {
    for (std::string_view secret : all_)
        while (!secret.empty())
            if (const auto part = take_part(secret, between_parts); !name(part) && tells(part, text)) return true;
    return false;
}

bool Session::Secrets::tells(std::string_view part, std::string_view text) const {
    if (part.size() < shortest_secret) return !part.empty() && has_word(text, part);
    while (!part.empty()) {  // a token behind "Bearer", a digest behind a name
        const auto word = take_part(part, " ");
        if (word.size() >= shortest_secret && !name(word) && text.find(word.substr(0, telling)) != text.npos)
            return true;
    }
    return false;
}

bool Session::repeats(std::string_view text) const noexcept { return said_ && said_->in(text); }

namespace {

// In one line.
std::string shown(const Reply& reply) {
    auto text = reply.str();
    std::ranges::replace(text, '\n', ' ');
    return text;
}

}  // namespace

void Session::give_up(std::string status, const std::string& why) {
    leave();
    fail({451, std::move(status), why});
}

// ---- TLS ----

Level Session::level() const {
    if (host_.endpoint.local()) return Level::none;
    return host_.level.value_or(security_.tls.level(security_.login != nullptr));
}

void Session::start_tls(Level level) {
    const bool may = level == Level::may;
    if (!offer_.starttls) {
        if (!may) give_up("4.7.5", name_ + " offers no STARTTLS, which is required");
        return;
    }
    tls_failed_ = true;
    const auto reply = command("STARTTLS", patience_.helo, About::connection);
    if (failure_) return;
    if (reply.code != 220) {
        // A yes that is none may be to something else.
        tls_failed_ = reply.positive();
        if (tls_failed_ || !may) give_up("4.7.5", name_ + " refuses STARTTLS, which is required: " + shown(reply));
        return;
    }
    // Whoever speaks in the host's place here would be heard as the host itself, under TLS.
    if (!connection_.buffered().empty()) {
        tls_failed_ = false;
        return give_up("4.7.5", name_ + " says more in front of TLS than it was asked");
    }
    if (encrypt(level)) hello();
    tls_failed_ = failure_.has_value();
}

bool Session::encrypt(Level level) {
    std::string problem;
    try {
        ClientTLS::Target target{host_.names, level, host_.records};
        if (target.names.empty()) target.names.push_back(host_.endpoint.host);
        auto layer = security_.tls.connect(connection_.fd(), target);
        if (connection_.encrypt(std::move(layer), until(patience_.handshake), problem)) {
            tls_ = summary(*connection_.tls());
            if (host_.witness.hear) tell("-- ", "TLS is " + tls_);
            return true;
        }
    } catch (const std::runtime_error& e) {
        problem = e.what();
    }
    constexpr std::string_view unbelieved = "certificate verify failed: ";
    if (problem.starts_with(unbelieved)) {
        fail({451, "4.7.5", "The certificate of " + name_ + " does not verify: " + problem.substr(unbelieved.size())});
        return false;
    }
    if (security_.tls.options().implicit && problem == "wrong version number") problem += ", it may want STARTTLS";
    fail({451, "4.7.5", "No TLS with " + name_ + ": " + problem});
    return false;
}

// ---- AUTH ----

void Session::log_in() {
    std::string why;
    try {
        const auto& names = host_.names;
        const Channel channel{connection_.tls(),
                              [this](std::string_view type) { return connection_.channel_binding(type); },
                              connection_.peer(), names.empty() ? host_.endpoint.host : names.front()};
        if (offer_.mechanisms.empty()) return give_up("4.7.5", name_ + " offers no AUTH, which is required");
        const auto exchange = security_.login->begin(offer_.mechanisms, channel, why);
        if (!exchange) return give_up("4.7.5", "No way to log in at " + name_ + ": " + why);
        why = converse(*exchange);
    } catch (const std::exception&) {
        close();  // it may wait for a response: QUIT would be taken for one
        why = "out of order here";
    }
    if (!failure_ && !why.empty()) give_up("4.7.8", "Authentication at " + name_ + " failed: " + why);
}

// Why it went wrong; "" when it did not, or the connection is lost.
std::string Session::converse(LoginExchange& exchange) {
    const auto mechanism = exchange.mechanism();
    if (std::ranges::find(offer_.mechanisms, mechanism) == offer_.mechanisms.end())
        return "the mechanism chosen is not offered";
    said_ = std::make_shared<Secrets>(security_.login->user());
    auto& said = *said_;
    Secret line;
    line.reserve(longest_command);
    line.append("AUTH ").append(mechanism);
    auto initial = said.add(exchange.step(std::nullopt));
    if (initial && line.size() + 1 + initial->size() + 2 <= longest_command) {
        line += ' ';
        line += initial->empty() ? "=" : *initial;
        initial = nullptr;
    }
    const std::string repeated = "(what it says repeats what we said)";
    const auto lost = [&] {
        if (said.in(failure_->text)) failure_->text = repeated;
        return std::string();
    };
    auto reply = say_secretly(line);
    for (int steps = 0; !failure_ && reply.code == 334; ++steps) {
        // RFC 4954 4: what does not fit into the command answers the empty challenge that asks for it.
        std::string challenge;
        const bool whole = steps < most_challenges && base64_decode(reply.text, challenge);
        const auto* response = initial ? challenge.empty() ? initial : nullptr : nullptr;
        if (whole && !initial) response = said.add(exchange.step(challenge));
        initial = nullptr;
        if (!whole || !response || response->size() > longest_response) {
            say_secretly("*");
            return failure_ ? lost() : "given up, what " + name_ + " asks makes no sense or does not prove who it is";
        }
        reply = say_secretly(*response);
    }
    if (failure_) return lost();
    if (reply.code == 235) return exchange.complete() ? "" : name_ + " has not proved who it is";
    login_refused_ = reply.permanent();
    if (!said.in(reply.text)) return shown(reply);
    return std::to_string(reply.code) + ' ' + repeated;
}

// "AUTH PLAIN ***", and "***" for what follows.
std::string Session::without_secret(const std::string& line) {
    if (line == "*") return line;
    if (!line.starts_with("AUTH ")) return "***";
    const auto end = line.find(' ', 5);
    return end == line.npos ? line : line.substr(0, end) + " ***";
}

// Afterwards nothing of it is left in what was to be sent.
Reply Session::say_secretly(const std::string& line) {
    auto reply = command(line, patience_.helo, About::login);
    wipe(connection_.out());
    return reply;
}

}  // namespace Net::SMTP
