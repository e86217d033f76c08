// sasl -- channels that never were, accounts, and both sides of a mechanism played against each other as SMTP does it.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "../Relay/SaslLogin.hpp"
#include "../Server/Sasl.hpp"

namespace test {

using namespace Net::SMTP;
using Is = AuthExchange::Step::Is;

// A connection as an exchange sees it.
struct Line {
    TLS tls{};
    std::map<std::string, std::string, std::less<>> bindings{};
    bool encrypted = false;
    Channel channel{};

    Line() { channel.hostname = "mail.example.org"; }
    Line(const Line&) = delete;
    Line& operator=(const Line&) = delete;

    Line& encrypt(bool verified_peer = true) {
        tls.version = "TLSv1.3";
        tls.peer = Certificate{.subject = "CN=peer", .names = {"DNS:peer.example.org"}, .verified = verified_peer};
        channel.tls = &tls;
        return *this;
    }
    Line& bind(std::string_view type = "tls-exporter", std::string_view data = "thirty-two octets of this channel") {
        bindings[std::string(type)] = data;
        channel.binding = [this](std::string_view t) {
            auto found = bindings.find(t);
            return found == bindings.end() ? "" : found->second;
        };
        return *this;
    }
};

struct Outcome {
    std::string mechanism{}, user{}, reason{}, why{};
    bool success = false;   // the server's last word
    bool complete = false;  // what the client thinks of it
    bool gave_up = false;   // the client, on its way
    int challenges = 0;
};

// One AUTH, from the server's offer to its verdict (RFC 4954 4).
inline Outcome play(AuthExchange& server, LoginExchange& client) {
    Outcome outcome;
    outcome.mechanism = client.mechanism();
    auto response = client.step(std::nullopt);
    for (int n = 0; n < 20; ++n) {
        auto step = server.step(response ? std::optional<std::string_view>(*response) : std::nullopt);
        outcome.user = step.user;
        outcome.reason = step.reason;
        const bool challenge = step.is == Is::challenge;
        if (challenge || !step.data.empty()) {
            ++outcome.challenges;
            response = client.step(step.data);
            outcome.gave_up = !response;
            if (!response) break;
        }
        if (challenge) continue;
        outcome.success = step.is == Is::success;
        break;
    }
    outcome.complete = client.complete();
    return outcome;
}

inline Outcome play(Authenticator& server, const Line& at_server, const Login& client, const Line& at_client) {
    Outcome outcome;
    auto login = client.begin(server.mechanisms(at_server.channel), at_client.channel, outcome.why);
    if (!login) return outcome;
    auto exchange = server.begin(login->mechanism(), at_server.channel);
    return exchange ? play(*exchange, *login) : outcome;
}

inline bool ok(const Outcome& o) { return o.success && o.complete && !o.gave_up; }

using Functions = AccountFunctions::Functions;
inline std::shared_ptr<Accounts> accounts(Functions functions) {
    return std::make_shared<AccountFunctions>(std::move(functions));
}

// An account with one thing to prove it by.
inline std::shared_ptr<Accounts> with_password(std::string user, std::string password) {
    return accounts({.password = [=](auto& u, auto& p, auto&) { return u == user && p == password; }});
}
inline std::shared_ptr<Accounts> with_keys(std::string user, const std::string& password, unsigned iterations = 4096) {
    auto keys = scram_keys(password, iterations, "sixteen octets !");
    return accounts({.keys = [=](auto& u) { return u == user ? std::optional(keys) : std::nullopt; }});
}
inline std::shared_ptr<Accounts> with_clear_password(std::string user, std::string password) {
    return accounts({.clear_password = [=](auto& u) { return u == user ? std::optional(password) : std::nullopt; }});
}
inline std::shared_ptr<Accounts> with_token(std::string user, std::string token) {
    return accounts({.token = [=](auto& u, auto& t, auto&) {
        return t == token && (u.empty() || u == user) ? std::optional(user) : std::nullopt;
    }});
}

}  // namespace test
