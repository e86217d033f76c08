// Pace -- how octets are cut into segments on their way out.
#pragma once

#include <cstddef>

namespace Net::SMTP::Test {

// A value. Cut octets go one piece at a time: the next is sent when nothing is left on our side of the one before, so
// that it travels alone. Over TCP the other side's kernel has it then, over a Unix socket the program; whether a
// program that is slow reads two at once is up to it.
struct Pace {
    enum class Cut { none, fixed, random };
    Cut cut = Cut::none;
    std::size_t size = 0;  // of a piece; the largest one where `random`
    unsigned seed = 5321;  // of `random`: the same seed cuts the same octets in the same places
    bool whole = false;    // of a dialogue: everything the client says goes out before any reply is read

    static const Pace groups;   // what is said without waiting goes out in one piece
    static const Pace at_once;  // the same, and a whole dialogue is said without waiting
    static const Pace octets;   // octet by octet
    static const Pace pieces;   // of 1 to 40 octets, from a fixed seed
    static constexpr Pace fixed(std::size_t each) { return {Cut::fixed, each}; }
    static constexpr Pace random(unsigned seed, std::size_t most = 40) { return {Cut::random, most, seed}; }

    bool operator==(const Pace&) const = default;
};

inline constexpr Pace Pace::groups{};
inline constexpr Pace Pace::at_once{Cut::none, 0, 5321, true};
inline constexpr Pace Pace::octets{Cut::fixed, 1};
inline constexpr Pace Pace::pieces{Cut::random, 40};

}  // namespace Net::SMTP::Test
