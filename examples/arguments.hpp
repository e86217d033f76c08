// arguments -- what the examples share: options of the command line in a table, and an end by SIGTERM.
#pragma once

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <Net/SMTP/Server.hpp>

#include "number.hpp"

// A row of the table.
struct Option {
    std::string name;                                   // "--listen"
    std::string value;                                  // what its value is, "HOST:PORT"; empty: it takes none
    std::string what;                                   // for --help
    std::string needs{};                                // the option without which it has no effect
    std::string otherwise{};                            // its value where it is not given
    void (*check)(const std::string& value) = nullptr;  // throws what is wrong with a value
};

// Checks for the table.
inline void is_number(const std::string& text) { to_number(text); }
inline void is_port(const std::string& text) {
    const auto n = to_number(text);
    if (n == 0 || n > 65535) throw std::invalid_argument("not a port");
}
inline void is_address(const std::string& text) {
    const auto plain = text.substr(text.starts_with("tls:") ? 4 : 0);
    if (!plain.starts_with("fd:")) Net::SMTP::Endpoint::parse(plain, 25);
}
inline void is_next_hop(const std::string& text) { Net::SMTP::Upstream::parse(text); }
inline void is_networks(const std::string& text) { Net::SMTP::Networks{text}; }

// Rows that several examples have.
const Option listening{"--listen", "HOST:PORT", "where to listen; again for more", "", "127.0.0.1:2525", is_address};
const Option smart_host{"--via", "HOST:PORT", "the next hop; lmtp: in front if it speaks LMTP", "", "", is_next_hop};
const Option own_name{"--hostname", "NAME", "what it calls itself (default: the system's name)"};
const Option max_size{"--max-size", "BYTES", "of the largest mail it takes; 0: any", "", "67108864", is_number};
const Option our_networks{"--trusted", "NETWORKS", "who relays without login", "", "127.0.0.0/8, ::1", is_networks};

// The command line: "--name value" and "--flag" by the table, and one operand if it has a name. --help ends the program
// with 0, and what makes no sense with 2 and the reason.
class Arguments {
public:
    Arguments(int argc, char** argv, std::string purpose, std::vector<Option> table, std::string operand = "")
        : program_(argv[0]), purpose_(std::move(purpose)), table_(std::move(table)), operand_(std::move(operand)) {
        program_.erase(0, program_.rfind('/') + 1);
        table_.push_back({"--help", "", "says this, as -h does"});
        for (int i = 1; i < argc; ++i) {
            const std::string name = argv[i];
            if (name == "--help" || name == "-h") help();
            if (!operand_.empty() && !name.starts_with('-') && !has(operand_)) {
                given_.push_back({operand_, name});
                continue;
            }
            if (!knows(name)) refuse(name, "there is no such argument");
            const bool takes = !row(name).value.empty();
            if (takes && i + 1 == argc) refuse(name, "its " + row(name).value + " is missing");
            given_.push_back({name, takes ? argv[++i] : ""});
        }
        if (!operand_.empty()) require(operand_);
        for (const auto& [name, value] : given_) check(name, value);
    }

    bool knows(const std::string& name) const { return std::ranges::find(table_, name, &Option::name) != table_.end(); }
    bool has(const std::string& name) const { return std::ranges::find(given_, name, &Given::name) != given_.end(); }

    // As it was given first, or what the table has.
    std::string operator()(const std::string& name) const {
        const auto found = std::ranges::find(given_, name, &Given::name);
        return found != given_.end() ? found->value : row(name).otherwise;
    }
    std::uint64_t number(const std::string& name) const { return to_number((*this)(name)); }

    // As often as it was given; else what the table has, if anything.
    std::vector<std::string> all(const std::string& name) const {
        std::vector<std::string> values;
        for (const auto& g : given_)
            if (g.name == name) values.push_back(g.value);
        if (values.empty() && !row(name).otherwise.empty()) values.push_back(row(name).otherwise);
        return values;
    }

    void require(const std::string& name) const {
        if (!has(name)) refuse(name, "is needed");
    }
    [[noreturn]] void refuse(const std::string& what, const std::string& why) const {
        std::fprintf(stderr, "%s: %s: %s (see --help)\n", program_.c_str(), what.c_str(), why.c_str());
        std::exit(2);
    }

private:
    struct Given {
        std::string name, value;
    };

    // Asking for an option that is not in the table is a mistake of the program.
    const Option& row(const std::string& name) const {
        const auto found = std::ranges::find(table_, name, &Option::name);
        if (found == table_.end()) throw std::logic_error("not in the table: " + name);
        return *found;
    }
    void check(const std::string& name, const std::string& value) const {
        if (name == operand_) return;
        const auto& option = row(name);
        if (!option.needs.empty() && !has(option.needs)) refuse(name, "has no effect without " + option.needs);
        try {
            if (option.check) option.check(value);
        } catch (const std::exception& e) {
            refuse(name + " '" + value + '\'', e.what());
        }
    }
    [[noreturn]] void help() const {
        const auto left = [](const Option& o) { return o.value.empty() ? o.name : o.name + ' ' + o.value; };
        std::size_t width = 0;
        for (const auto& o : table_) width = std::max(width, left(o).size());
        std::printf("%s\n\nusage: %s [OPTION]...%s\n\n", purpose_.c_str(), program_.c_str(),
                    operand_.empty() ? "" : (' ' + operand_).c_str());
        for (const auto& o : table_)
            std::printf("  %-*s  %s%s\n", static_cast<int>(width), left(o).c_str(), o.what.c_str(),
                        o.otherwise.empty() ? "" : (" (default: " + o.otherwise + ')').c_str());
        std::exit(std::fflush(stdout) == 0 ? 0 : 1);
    }

    std::string program_, purpose_;
    std::vector<Option> table_;
    std::string operand_;
    std::vector<Given> given_;
};

// Says where the server listens, and ends it on SIGTERM and SIGINT. stop() is safe in a signal handler.
inline void ready(Net::SMTP::Server& server) {
    static Net::SMTP::Server* running = nullptr;
    running = &server;
    struct sigaction action {};
    action.sa_flags = SA_RESTART;
    action.sa_handler = [](int) {
        // A second one may come when the server is no more.
        for (int number : {SIGTERM, SIGINT}) std::signal(number, SIG_IGN);
        running->stop();
    };
    for (int number : {SIGTERM, SIGINT}) sigaction(number, &action, nullptr);
    const auto& addresses = server.addresses();
    for (std::size_t i = 0; i < addresses.size(); ++i)
        std::printf("listening on %s%s\n", addresses[i].str().c_str(), server.implicit_tls(i) ? " (TLS)" : "");
    std::fflush(stdout);
}
