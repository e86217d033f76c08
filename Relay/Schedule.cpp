#include "Schedule.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace Net::SMTP {

Schedule Schedule::simplesmtp() {
    using namespace std::chrono;
    return {
        .first = seconds(120), .factor = 1, .longest = seconds(120), .jitter = 0, .life = seconds(345'600), .warn = {}};
}

Schedule Schedule::named(std::string_view name) {
    if (name == "standard") return {};
    if (name == "simplesmtp") return simplesmtp();
    throw std::invalid_argument("schedule: not standard or simplesmtp: " + std::string(name));
}

void Schedule::check() const {
    const auto refuse = [](const char* why) { throw std::invalid_argument(std::string("Schedule: ") + why); };
    if (first.count() <= 0) refuse("first is not positive");
    if (longest < first) refuse("longest is under first");
    if (longest > longest_wait / 2) refuse("longest is over half a week");
    if (!(factor >= 1 && factor <= 100)) refuse("factor is not from 1 to 100");
    if (!(jitter >= 0 && jitter <= 0.5)) refuse("jitter is not from 0 to 0.5");
    if (life.count() <= 0 || life > std::chrono::hours(24 * 366)) refuse("life is not from a second to a year");
    if (warn.count() < 0) refuse("warn is negative");
}

std::chrono::milliseconds Schedule::after(std::uint32_t attempts, double random) const {
    const double grown = double(first.count()) * std::pow(factor, attempts > 0 ? double(attempts) - 1 : 0.0);
    const double interval = std::min(grown, double(longest.count()));
    const double spread = interval * (1 + jitter * (2 * random - 1));
    return std::chrono::milliseconds(std::max<std::int64_t>(1, std::llround(spread)));
}

bool Schedule::expired(QueueTime arrived, QueueTime now, std::uint32_t attempts) const {
    return attempts >= 2 && now - arrived >= life;
}

}  // namespace Net::SMTP
