// option -- what an option of the daemon is: its name, its values, and the checks for them.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <Net/SMTP/Relay/Relay.hpp>
#include <Net/SMTP/Relay/Schedule.hpp>
#include <Net/SMTP/Server.hpp>
#include <Net/SMTP/Server/Plugins/Domains.hpp>

#include "../number.hpp"

enum class Kind {
    text,     // one value, as it is written
    secret,   // the same, and nobody else should read it
    path,     // of a file or folder; from the folder where the program was started, if it is not absolute
    flag,     // true or false
    number,   // digits
    period,   // of seconds; or with s, m, h or d behind the number
    list,     // values parted by commas
    entries,  // values of which each may hold commas: name.1, name.2, ...
};

struct Option {
    const char* name;
    Kind kind;
    const char* valid;                            // what its values are, for people
    const char* otherwise;                        // its value where it is not given
    const char* what;                             // for --help
    bool at_once = false;                         // SIGHUP takes it up; else it needs a restart
    void (*check)(const std::string&) = nullptr;  // of one value; throws what is wrong with it
};

inline std::string trimmed(std::string_view text) {
    const auto begin = text.find_first_not_of(" \t\r\n");
    if (begin == text.npos) return "";
    return std::string(text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1));
}

inline std::vector<std::string> parted(std::string_view text, char by) {
    std::vector<std::string> parts;
    for (std::size_t begin = 0; begin <= text.size();) {
        const auto end = std::min(text.find(by, begin), text.size());
        if (auto part = trimmed(text.substr(begin, end - begin)); !part.empty()) parts.push_back(std::move(part));
        begin = end + 1;
    }
    return parts;
}

inline bool to_flag(const std::string& text) {
    for (const char* yes : {"true", "yes", "on", "1"})
        if (text == yes) return true;
    for (const char* no : {"false", "no", "off", "0"})
        if (text == no) return false;
    throw std::invalid_argument("neither true nor false");
}

inline std::chrono::seconds to_period(const std::string& text) {
    std::uint64_t unit = 1;
    auto digits = text;
    if (!text.empty() && std::string_view("smhd").find(text.back()) != std::string_view::npos) {
        unit = text.back() == 'd' ? 86400 : text.back() == 'h' ? 3600 : text.back() == 'm' ? 60 : 1;
        digits.pop_back();
    }
    const auto n = to_number(digits);
    if (n > 366 * 86400 / unit) throw std::invalid_argument("longer than a year");
    return std::chrono::seconds(n * unit);
}

// ---- checks for the table ----

template <std::uint64_t least, std::uint64_t most = std::numeric_limits<std::uint64_t>::max()>
void within(const std::string& text) {
    const auto n = to_number(text);
    if (n < least || n > most) throw std::invalid_argument("out of range");
}
inline void some_time(const std::string& text) {
    if (to_period(text).count() == 0) throw std::invalid_argument("no time at all");
}
inline void a_hostname(const std::string& text) {
    const auto fits = [](unsigned char c) {
        return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
               std::string_view("-._:[]").find(char(c)) != std::string_view::npos;
    };
    if (text.size() > 255 || !std::ranges::all_of(text, fits)) throw std::invalid_argument("not a host's name");
}
inline void an_address(const std::string& text) {
    const auto plain = text.substr(text.starts_with("tls:") ? 4 : 0);
    if (!plain.starts_with("fd:")) Net::SMTP::Endpoint::parse(plain, 25);
}
inline void a_next_hop(const std::string& text) {
    if (!text.empty()) Net::SMTP::Upstream::parse(text);
}
inline void a_level(const std::string& text) {
    if (!text.empty()) Net::SMTP::ClientTLS::parse(text);
}
inline void networks(const std::string& text) { Net::SMTP::Networks{text}; }
inline void a_domain(const std::string& text) {
    Net::SMTP::Domains::Options options;
    options.domains = {text};
    Net::SMTP::Domains{options};
}
inline void a_schedule(const std::string& text) { Net::SMTP::Schedule::named(text); }
