// next_hop -- what the examples that relay share: how to reach the next hop, encrypted, and as whom.
#pragma once

#include <sys/stat.h>

#include <cstdio>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <Net/SMTP/Relay/SaslLogin.hpp>
#include <Net/SMTP/Server.hpp>

#include "arguments.hpp"

inline void is_level(const std::string& text) { Net::SMTP::ClientTLS::parse(text); }

// The program's own options and ours behind them.
inline std::vector<Option> next_hop_options(std::vector<Option> others) {
    const std::vector<Option> ours{
        smart_host,
        {"--via-tls", "LEVEL", "none|may|must|verify|dane|implicit[,LEVEL] (default: may)", "", "", is_level},
        {"--via-ca", "FILE", "PEM: who signs its certificate; verify is the default then"},
        {"--via-user", "USER", "logs in there; verify is the default then", "--via-pass-file"},
        {"--via-pass-file", "FILE", "whose first line is the password", "--via-user"},
        {"--via-auth", "MECHANISM", "by this one only, in the clear too; again for more", "--via-user"}};
    others.insert(others.end(), ours.begin(), ours.end());
    return others;
}

inline Net::SMTP::ClientTLS next_hop_tls(const Arguments& given) {
    using Net::SMTP::ClientTLS;
    auto options = given.has("--via-tls") ? ClientTLS::parse(given("--via-tls")) : ClientTLS::Options();
    if (options.level == ClientTLS::Level::dane) {
        if (!given.knows("--trust-anchor"))
            given.refuse("--via-tls", "dane needs a resolver, and this program has none");
        if (!given.has("--trust-anchor")) given.refuse("--via-tls", "dane needs --trust-anchor");
    }
    options.ca = given("--via-ca");
    return ClientTLS(options);
}

// Null when no user is named.
inline std::shared_ptr<Net::SMTP::Login> next_hop_login(const Arguments& given) {
    if (!given.has("--via-user")) return nullptr;
    if (!given.has("--via")) given.refuse("--via-user", "has no effect without --via");
    const auto file = given("--via-pass-file");
    std::string password;
    std::ifstream in(file);
    std::getline(in, password);
    if (!password.empty() && password.back() == '\r') password.pop_back();
    if (password.empty()) throw std::runtime_error("--via-pass-file: no password in " + file);
    struct stat status {};
    if (stat(file.c_str(), &status) == 0 && (status.st_mode & 077) != 0)
        std::fprintf(stderr, "warning: others than its owner may read %s\n", file.c_str());
    const auto named = given.all("--via-auth");
    return std::make_shared<Net::SMTP::SaslLogin>(Net::SMTP::SaslLogin::Options{
        .user = given("--via-user"), .password = password, .mechanisms = named, .clear_text = named});
}
