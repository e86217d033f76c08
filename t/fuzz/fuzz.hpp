// fuzz -- what every target is made of: its input taken apart, and how it says what broke. One file a program.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <type_traits>

namespace fuzz {

// With what is not printable as \xNN, so that it can be read, and cut where nobody would read on.
inline std::string shown(std::string_view octets) {
    constexpr std::size_t enough = 4000;
    std::string out;
    for (const char c : octets.substr(0, enough)) {
        char hex[8];
        std::snprintf(hex, sizeof hex,
                      c == '\r'   ? "\\r"
                      : c == '\n' ? "\\n\n"
                                  : "\\x%02X",
                      static_cast<unsigned char>(c));
        const bool plain = c >= ' ' && c <= '~' && c != '\\';
        out += plain ? std::string(1, c) : std::string(hex);
    }
    return octets.size() > enough ? out + "..." : out;
}
inline std::string shown(bool value) { return value ? "true" : "false"; }
template <class Number>
requires std::is_arithmetic_v<Number> std::string shown(Number number) { return std::to_string(number); }

// Ends the run: libFuzzer keeps the input.
template <class... Values>
[[noreturn]] void broken(std::string_view promise, const Values&... values) {
    std::fprintf(stderr, "\nBROKEN: %.*s\n", int(promise.size()), promise.data());
    for (const auto& value : {std::string(), shown(values)...})
        if (!value.empty()) std::fprintf(stderr, "  %s\n", value.c_str());
    std::fflush(stderr);
    __builtin_trap();
}

// A promise of the library's, in words, and what is to be seen when it is broken.
template <class... Values>
void require(bool holds, std::string_view promise, const Values&... values) {
    if (!holds) [[unlikely]]
        broken(promise, values...);
}
template <class A, class B>
void same(const A& a, const B& b, std::string_view promise) {
    if (!(a == b)) [[unlikely]]
        broken(promise, a, b);
}

// Small numbers that follow from a seed (xorshift).
class Chance {
public:
    explicit Chance(std::uint64_t seed) : state_(seed * 2654435769U + 88172645463325252U) {}
    std::uint64_t next() {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        return state_ ^= state_ << 17;
    }
    // 0 to n-1.
    std::size_t below(std::size_t n) { return std::size_t(next() % n); }

private:
    std::uint64_t state_;
};

// What libFuzzer gives: numbers are taken from its end, so that what is left begins as a text that people can read.
class Input {
public:
    explicit Input(std::string_view octets) : rest_(octets) {}
    std::uint8_t octet() {
        if (rest_.empty()) return 0;
        const auto out = static_cast<std::uint8_t>(rest_.back());
        rest_.remove_suffix(1);
        return out;
    }
    bool flag() { return octet() & 1; }
    Chance chance() {
        const auto high = octet();
        return Chance(std::uint64_t(high) << 8 | octet());
    }
    std::string_view rest() const { return rest_; }
    // What is in front of the separator, which goes too; all if there is none.
    std::string_view until(char separator) {
        const auto out = rest_.substr(0, rest_.find(separator));
        rest_.remove_prefix(out.size() < rest_.size() ? out.size() + 1 : out.size());
        return out;
    }

private:
    std::string_view rest_;
};

// The target.
void run(Input input);

}  // namespace fuzz

// Nothing that comes from outside makes the library throw, but for what a target expects and catches.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    try {
        fuzz::run(fuzz::Input({reinterpret_cast<const char*>(data), size}));
    } catch (const std::exception& e) {
        fuzz::broken("nothing throws", std::string_view(e.what()));
    }
    return 0;
}
