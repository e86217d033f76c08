// Counters -- how much a server does and how long it takes, as numbers and as Prometheus reads them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "Watch.hpp"

namespace Net::SMTP {

// Since it was made, of all pipelines it listens to, in this process: what the children of Server::Mode::process do is
// counted there. All is counted without a lock but a session's beginning and end. See Watch for what is a mail, and
// when to listen.
class Counters {
public:
    // How many took at most so many seconds, and not what the one before says; in the last one those that took longer.
    struct Histogram {
        static constexpr std::array<double, 12> bounds{0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60, 300, 1800};
        std::array<std::uint64_t, bounds.size() + 1> buckets{};
        double sum = 0;  // of all, in seconds
        std::uint64_t count() const;
    };
    struct Snapshot {
        std::uint64_t sessions_now = 0, sessions = 0;  // those that have ended too
        std::uint64_t mails_accepted = 0;              // for one recipient at least
        std::uint64_t mails_refused = 0;               // to MAIL, DATA, BDAT, or the text
        std::uint64_t mails_dropped = 0;               // by the client, before the text was complete, or lost
        std::uint64_t bytes = 0;                       // octets of messages that were here
        std::map<int, std::uint64_t> refusals{};       // replies of 400 to 599, by their code
        std::uint64_t auth_successes = 0, auth_failures = 0;
        std::uint64_t tls_sessions = 0, tls_failures = 0;  // handshakes
        std::uint64_t troubles = 0;                        // Event::Trouble
        std::uint64_t swallowed = 0;  // replies that somebody has kept from clients, Event::Response
        Histogram session_time{};     // of those that have ended
        Histogram answer_time{};      // of mails, from the end of the text until the answer was known
    };

    Counters();
    // Listens to it, as long as it lives or until these are given to Pipeline::off(); this object may go before. Once
    // for each pipeline.
    std::vector<Pipeline::Listener> listen(Pipeline& pipeline) const;

    // Any thread, any time. What happens meanwhile may be in one of the numbers and not yet in another.
    Snapshot snapshot() const;
    // The same in Prometheus' text format 0.0.4 (Content-Type: text/plain; version=0.0.4). The names begin with
    // `prefix` and '_'; what no name may hold becomes '_'. Each sample has the label server, unless that is empty.
    std::string prometheus(std::string_view prefix = "smtp", std::string_view server = "") const;

private:
    struct Numbers;
    std::shared_ptr<Numbers> numbers_;
    Watch watch_;
};

}  // namespace Net::SMTP
