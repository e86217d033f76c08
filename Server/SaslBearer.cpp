// The server's side of OAUTHBEARER and XOAUTH2: bearer tokens.
#include <algorithm>

#include "Gsasl.hpp"
#include "SaslMechanisms.hpp"
#include "SaslScram.hpp"

namespace Net::SMTP {

namespace {

constexpr char separator = '\x01';

struct Presented {
    std::string user{};  // "" for none
    std::string_view token{};
};

// RFC 6750 2.1, and whatever else of visible ASCII.
bool token_like(std::string_view text) {
    return !text.empty() && std::ranges::all_of(text, [](char c) { return c > ' ' && c <= '~'; });
}

char small(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// "Bearer", whatever its case (RFC 9110 11.1), and the token.
std::optional<std::string_view> bearer(std::string_view value) {
    constexpr std::string_view scheme = "bearer ";
    if (value.size() < scheme.size() || !std::ranges::equal(value.substr(0, scheme.size()), scheme, {}, small))
        return std::nullopt;
    value.remove_prefix(std::min(value.find_first_not_of(' ', scheme.size()), value.size()));
    if (!token_like(value)) return std::nullopt;
    return value;
}

// What "key=value" separator ... separator says of `key`; nullopt where it is not there, not so, or there twice.
std::optional<std::string_view> value_of(std::string_view pairs, std::string_view key) {
    std::optional<std::string_view> found;
    while (!pairs.empty() && pairs[0] != separator) {
        auto end = pairs.find(separator), equals = pairs.find('=');
        if (end == pairs.npos || equals > end) return std::nullopt;
        if (pairs.substr(0, equals) == key) {
            if (found) return std::nullopt;
            found = pairs.substr(equals + 1, end - equals - 1);
        }
        pairs.remove_prefix(end + 1);
    }
    if (pairs.size() != 1) return std::nullopt;
    return found;
}

// RFC 7628 3.1: a GS2 header, pairs.
std::optional<Presented> read_oauthbearer(std::string_view message) {
    auto header = Scram::take_header(message);
    if (!header || header->flag == 'p' || !message.starts_with(separator)) return std::nullopt;
    auto value = value_of(message.substr(1), "auth");
    auto token = value ? bearer(*value) : std::nullopt;
    if (!token) return std::nullopt;
    return Presented{header->acts_as, *token};
}

// https://developers.google.com/workspace/gmail/imap/xoauth2-protocol: pairs.
std::optional<Presented> read_xoauth2(std::string_view message) {
    auto user = value_of(message, "user"), value = value_of(message, "auth");
    auto token = value ? bearer(*value) : std::nullopt;
    if (!user || user->empty() || !token) return std::nullopt;
    return Presented{std::string(*user), *token};
}

class Bearer : public SaslExchange {
public:
    using Read = std::optional<Presented>(std::string_view);
    Bearer(JudgePointer judge, const Channel& channel, Read* read, const char* error)
        : SaslExchange(std::move(judge), channel), read_(read), error_(error) {}

private:
    Step next(std::optional<std::string_view> message) override {
        if (refused_) return failure(user_, "no such user or token");
        if (!message) return challenge("");
        auto presented = read_(*message);
        if (!presented) return failure("", "malformed");
        if (!presented->user.empty()) {
            auto prepared = saslprep(presented->user);
            if (!prepared) return failure("", "not a user's name");
            user_ = *prepared;
        }
        Secret token(presented->token);
        auto user = judge().accounts().token(user_, token.octets, channel());
        if (user && !user->empty()) return {Step::Is::success, "", *user, ""};
        // The client is told why, answers something, and hears then that it has failed (RFC 7628 3.2.3).
        refused_ = true;
        return {Step::Is::challenge, error_, user_, "no such user or token"};
    }

    Read* const read_;
    const char* const error_;
    bool refused_ = false;
    std::string user_;
};

}  // namespace

std::unique_ptr<AuthExchange> oauthbearer_exchange(JudgePointer judge, const Channel& channel) {
    return std::make_unique<Bearer>(std::move(judge), channel, read_oauthbearer, R"({"status":"invalid_token"})");
}

std::unique_ptr<AuthExchange> xoauth2_exchange(JudgePointer judge, const Channel& channel) {
    return std::make_unique<Bearer>(std::move(judge), channel, read_xoauth2, R"({"status":"401","schemes":"bearer"})");
}

}  // namespace Net::SMTP
