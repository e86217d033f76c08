// Schedule -- when mail that could not be delivered is tried again, and for how long.
#pragma once

#include <chrono>
#include <cstdint>
#include <string_view>

#include "Store.hpp"

namespace Net::SMTP {

// The first retry comes `first` after the first try, each later one `factor` times as long after the one before, up to
// `longest`; all spread by `jitter`, so that what has failed together does not come back together. With the defaults:
// after 5, 10, 20, 40, 80, 160, 240, 240, ... minutes, each up to 10 % sooner or later. A message that is `life` old
// when a try fails is not tried again; so it has at least two tries, whatever the clocks say.
struct Schedule {
    std::chrono::milliseconds first{std::chrono::minutes(5)};
    double factor = 2;
    std::chrono::milliseconds longest{std::chrono::hours(4)};
    double jitter = 0.1;  // a part of the interval, 0 to 0.5
    std::chrono::seconds life{std::chrono::hours(96)};
    // The sender is told of a delay when a try fails after so long, once; zero: never.
    std::chrono::seconds warn{std::chrono::hours(4)};

    // Every 120 s for 345,600 s, without jitter or warnings: what POE::Component::Server::SimpleSMTP does.
    static Schedule simplesmtp();
    // "standard" or "simplesmtp"; std::invalid_argument for anything else.
    static Schedule named(std::string_view name);
    // std::invalid_argument names what makes no sense.
    void check() const;

    // How long to wait after that many tries (1: the first has failed). `random` is between 0 and 1.
    std::chrono::milliseconds after(std::uint32_t attempts, double random) const;
    bool expired(QueueTime arrived, QueueTime now, std::uint32_t attempts) const;
};

}  // namespace Net::SMTP
