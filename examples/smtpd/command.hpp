// command -- a command that mail is piped into, and how many descriptors it may have open: the daemon takes what it can
// get, and many programs can't do with more than they had (select(2)).
#pragma once

#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <Net/SMTP/Relay/Pipe.hpp>

class Command : public Net::SMTP::Target {
public:
    // Raises the soft limit of descriptors to the hard one. At the start, when there are no threads.
    static void take_all_descriptors() {
        rlimit limit{};
        if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
        const auto before = std::exchange(limit.rlim_cur, limit.rlim_max);
        if (setrlimit(RLIMIT_NOFILE, &limit) == 0) given() = before;
    }

    // The limit of a process is inherited, and posix_spawn(3) changes none. So where it was raised the command is
    // started by another process of this program, which ends here.
    static void become(std::span<char*> arguments) {
        if (arguments.size() < 4 || arguments[1] != start_word) return;
        rlimit limit{};
        const std::string_view number = arguments[2];
        getrlimit(RLIMIT_NOFILE, &limit);
        std::from_chars(number.data(), number.data() + number.size(), limit.rlim_cur);
        if (setrlimit(RLIMIT_NOFILE, &limit) == 0) execv(arguments[3], &arguments[3]);
        std::fprintf(stderr, "%s could not be started: %s\n", arguments[3], std::strerror(errno));
        std::_Exit(EX_CONFIG);
    }

    // As a Pipe's, which waits for a day at most. std::invalid_argument.
    Command(std::vector<std::string> words, std::chrono::seconds deadline)
        : name_(Net::SMTP::Pipe(words).name()),
          pipe_(started(std::move(words)),
                {.deadline = std::min<std::chrono::seconds>(deadline, std::chrono::hours(24))}) {}

    std::vector<Net::SMTP::Reply> deliver(const Net::SMTP::Sender& from, std::span<const Net::SMTP::Recipient> to,
                                          const Net::SMTP::Message& message, const std::string& head,
                                          const Net::SMTP::Wait& wait) override {
        return pipe_.deliver(from, to, message, head, wait);
    }
    std::string name() const override { return name_; }

private:
    static constexpr std::string_view start_word = "--start-with-descriptors";

    static std::optional<rlim_t>& given() {
        static std::optional<rlim_t> before;
        return before;
    }
    static std::vector<std::string> started(std::vector<std::string> words) {
        if (words.front().find('{') != std::string::npos)  // as an argument it would be filled in by strangers
            throw std::invalid_argument("a command's path is taken as it is, without {}: " + words.front());
        if (!given()) return words;
        std::vector<std::string> all{"/proc/self/exe", std::string(start_word), std::to_string(*given())};
        all.insert(all.end(), words.begin(), words.end());
        return all;
    }

    const std::string name_;
    Net::SMTP::Pipe pipe_;
};
