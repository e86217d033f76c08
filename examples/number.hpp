// number -- a number that somebody has written, for command lines and files of options.
#pragma once

#include <charconv>
#include <cstdint>
#include <stdexcept>
#include <string>

// Digits and nothing else; std::invalid_argument.
inline std::uint64_t to_number(const std::string& text) {
    std::uint64_t n = 0;
    const auto end = text.data() + text.size();
    const auto read = std::from_chars(text.data(), end, n);
    if (read.ec != std::errc() || read.ptr != end) throw std::invalid_argument("not a number");
    return n;
}
