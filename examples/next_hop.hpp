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

// --via HOST:PORT, --via-tls none|may|must|verify|dane|implicit[,LEVEL], --via-ca FILE, --via-user USER and
// --via-pass-file FILE, whose first line is the password; --via-auth MECHANISM names mechanisms, and only those are
// used then, in the clear too.
inline std::vector<std::string> next_hop_arguments(std::vector<std::string> others) {
    for (const char* ours : {"--via=", "--via-tls=", "--via-ca=", "--via-user=", "--via-pass-file=", "--via-auth="})
        others.emplace_back(ours);
    return others;
}

inline Net::SMTP::ClientTLS next_hop_tls(const Arguments& given) {
    auto options =
        given.has("--via-tls") ? Net::SMTP::ClientTLS::parse(given("--via-tls")) : Net::SMTP::ClientTLS::Options();
    options.ca = given("--via-ca");
    return Net::SMTP::ClientTLS(options);
}

// Null when no user is named.
inline std::shared_ptr<Net::SMTP::Login> next_hop_login(const Arguments& given) {
    if (!given.has("--via-user")) {
        if (given.has("--via-pass-file") || given.has("--via-auth"))
            throw std::invalid_argument("--via-pass-file and --via-auth need --via-user");
        return nullptr;
    }
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
