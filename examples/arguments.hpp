// arguments -- what the examples share: options of the command line, and an end by SIGTERM.
#pragma once

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <Net/SMTP/Server.hpp>

// "--name value" and "--flag". Whatever is not in `known` ends the program with its usage.
class Arguments {
public:
    // known: "--listen=" takes a value, "--keep" takes none.
    Arguments(int argc, char** argv, std::vector<std::string> known) : known_(std::move(known)) {
        for (int i = 1; i < argc; ++i) {
            const std::string name = argv[i];
            if (knows(name + '=') && i + 1 < argc) given_.push_back({name, argv[++i]});
            else if (knows(name)) given_.push_back({name, ""});
            else usage(argv[0]);
        }
    }

    bool has(const std::string& name) const { return find(name) != nullptr; }

    std::string operator()(const std::string& name, const std::string& otherwise = "") const {
        const auto* value = find(name);
        return value ? *value : otherwise;
    }

    std::vector<std::string> all(const std::string& name) const {
        std::vector<std::string> values;
        for (const auto& g : given_)
            if (g.name == name) values.push_back(g.value);
        return values;
    }
    std::vector<std::string> all(const std::string& name, const std::string& otherwise) const {
        auto values = all(name);
        if (values.empty()) values.push_back(otherwise);
        return values;
    }

    std::uint16_t port(const std::string& name, std::uint16_t otherwise) const {
        const auto n = number(name, otherwise);
        if (n == 0 || n > 65535) {
            std::fprintf(stderr, "%s: not a port: %s\n", name.c_str(), (*this)(name).c_str());
            std::exit(2);
        }
        return static_cast<std::uint16_t>(n);
    }

    std::uint64_t number(const std::string& name, std::uint64_t otherwise) const {
        const auto* value = find(name);
        if (!value) return otherwise;
        char* end = nullptr;
        const auto n = std::strtoull(value->c_str(), &end, 10);
        if (value->empty() || *end || !std::isdigit(static_cast<unsigned char>(value->front()))) {
            std::fprintf(stderr, "%s: not a number: %s\n", name.c_str(), value->c_str());
            std::exit(2);
        }
        return n;
    }

private:
    struct Given {
        std::string name, value;
    };
    bool knows(const std::string& name) const {
        for (const auto& k : known_)
            if (k == name) return true;
        return false;
    }
    const std::string* find(const std::string& name) const {
        for (const auto& g : given_)
            if (g.name == name) return &g.value;
        return nullptr;
    }
    [[noreturn]] void usage(const char* program) const {
        std::fprintf(stderr, "usage: %s", program);
        for (const auto& k : known_) {
            const bool takes = k.back() == '=';
            std::fprintf(stderr, " [%s%s]", k.substr(0, k.size() - takes).c_str(), takes ? " VALUE" : "");
        }
        std::fprintf(stderr, "\n");
        std::exit(2);
    }

    std::vector<std::string> known_;
    std::vector<Given> given_;
};

// Says where the server listens, and ends it on SIGTERM and SIGINT. stop() is safe in a signal handler.
inline void ready(Net::SMTP::Server& server) {
    static Net::SMTP::Server* running = nullptr;
    running = &server;
    for (int number : {SIGTERM, SIGINT}) std::signal(number, [](int) { running->stop(); });
    for (const auto& address : server.addresses()) std::printf("listening on %s\n", address.str().c_str());
    std::fflush(stdout);
}
