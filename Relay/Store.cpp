#include "Store.hpp"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <system_error>

namespace Net::SMTP {

namespace {

// In the order of ASCII, without those that look like each other.
constexpr std::string_view digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

void append(std::string& out, std::uint64_t value, int places) {
    for (int i = places - 1; i >= 0; --i) out += digits[value >> (5 * i) & 31];
}

}  // namespace

QueueTime queue_now() {
    return std::chrono::time_point_cast<std::chrono::milliseconds>(std::chrono::system_clock::now());
}

bool QueueItem::in_flight() const { return std::ranges::any_of(to, &To::in_flight); }

// The microseconds of the calendar, and 75 bits that nobody else has.
std::string new_queue_id() {
    using namespace std::chrono;
    std::array<std::uint64_t, 2> random;
    auto* at = reinterpret_cast<char*>(random.data());
    for (std::size_t have = 0; have < sizeof random;) {
        const auto n = getrandom(at + have, sizeof random - have, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) throw std::system_error(errno, std::generic_category(), "getrandom");
        have += std::size_t(n);
    }
    const auto now = duration_cast<microseconds>(system_clock::now().time_since_epoch()).count();
    std::string id;
    id.reserve(26);
    append(id, std::uint64_t(now), 11);
    append(id, random[0], 12);
    append(id, random[1], 3);
    return id;
}

}  // namespace Net::SMTP
