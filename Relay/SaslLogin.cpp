#include "SaslLogin.hpp"

#include <algorithm>
#include <stdexcept>

#include "../Server/Gsasl.hpp"
#include "../Server/SaslMechanisms.hpp"
#include "SaslLoginExchanges.hpp"

namespace Net::SMTP {

namespace {

enum class Needs { password, token, nothing };

struct Known {
    std::string_view name;
    Needs needs;
    bool clear;  // shows the secret
};

// The strongest first.
constexpr Known known[] = {
    {"EXTERNAL", Needs::nothing, false},       {"SCRAM-SHA-256-PLUS", Needs::password, false},
    {"SCRAM-SHA-256", Needs::password, false}, {"CRAM-MD5", Needs::password, false},
    {"OAUTHBEARER", Needs::token, true},       {"XOAUTH2", Needs::token, true},
    {"PLAIN", Needs::password, true},          {"LOGIN", Needs::password, true},
};
constexpr std::string_view external = "EXTERNAL", plus = "SCRAM-SHA-256-PLUS";

bool names(const std::vector<std::string>& list, std::string_view name) {
    return std::ranges::find(list, name) != list.end();
}

const Known* find(std::string_view name) {
    const auto* found = std::ranges::find(known, name, &Known::name);
    return found == std::end(known) ? nullptr : found;
}

[[noreturn]] void refuse(const std::string& why) { throw std::invalid_argument("SaslLogin: " + why); }

void check_text(const std::string& text, const char* what) {
    if (!text.empty() && !saslprep(text)) refuse(std::string("a ") + what + " that SASLprep prohibits");
}

void check(const SaslLogin::Options& o) {
    check_text(o.user, "user");
    check_text(o.password, "password");
    check_text(o.acts_as, "name to act as");
    for (const auto* list : {&o.mechanisms, &o.clear_text})
        for (const auto& name : *list)
            if (!find(name)) refuse("no mechanism that is known: " + name);
    const bool certificate = names(o.mechanisms, external);
    if (o.user.empty() && !(certificate && o.mechanisms.size() == 1)) refuse("no user");
    if (o.password.empty() && !o.token && !certificate) refuse("no password and no token");
}

// "A", "A and B", "A, B and C": what a server offers, but only what can be a mechanism, and not more than a line holds.
std::string listed(const std::vector<std::string>& offered) {
    constexpr std::size_t most = 8;
    const auto fits = [](char c) { return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_'; };
    std::vector<std::string> fit;
    for (const auto& name : offered)
        if (!name.empty() && name.size() <= 20 && std::ranges::all_of(name, fits)) fit.push_back(name);
    if (fit.size() > most) {
        fit.resize(most);
        fit.emplace_back("others");
    }
    std::string text;
    for (std::size_t i = 0; i < fit.size(); ++i) text += (i == 0 ? "" : i + 1 == fit.size() ? " and " : ", ") + fit[i];
    return text.empty() ? "no mechanism" : text;
}

bool verified(const Channel& channel) { return channel.tls && channel.tls->peer && channel.tls->peer->verified; }

}  // namespace

SaslLogin::SaslLogin(Options options) : options_(std::move(options)) { check(options_); }
SaslLogin::SaslLogin(std::string user, std::string password)
    : SaslLogin(Options{.user = std::move(user), .password = std::move(password)}) {}

std::unique_ptr<LoginExchange> SaslLogin::begin(const std::vector<std::string>& offered, const Channel& channel,
                                                std::string& why) const {
    const auto& o = options_;
    const auto type = binding_type(channel);
    const auto wanted = [&](const Known& k) {
        if (o.mechanisms.empty() ? k.name == external : !names(o.mechanisms, k.name)) return false;
        if (k.needs == Needs::password && o.password.empty()) return false;
        return k.needs != Needs::token || o.token;
    };
    bool too_clear = false;
    for (const auto& k : known) {
        if (!wanted(k) || !names(offered, k.name)) continue;
        if (k.name == plus && type.empty()) continue;
        if (k.clear && !verified(channel) && !names(o.clear_text, k.name)) {
            too_clear = true;
            continue;
        }
        // RFC 5802 6: 'y' says that we could have bound the channel, had it been offered.
        LoginTerms terms{.options = o, .channel = channel};
        terms.binding = k.name == plus ? type : "";
        terms.could_bind = !type.empty() && wanted(*find(plus)) && !names(offered, plus);
        return begin_login(k.name, terms, why);
    }
    why = "The server offers " + std::string(offered.empty() ? "" : "only ") + listed(offered) +
          (too_clear ? ", and the connection is not verified TLS" : ", nothing that this login may use");
    return nullptr;
}

}  // namespace Net::SMTP
