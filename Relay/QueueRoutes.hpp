// QueueRoutes -- which way the mail of a recipient goes from a queue; for our own .cpp files only, it is not installed.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "Queue.hpp"

namespace Net::SMTP {

// Where something goes: those of one `name` share a limit.
struct QueueWay {
    std::string name;
    std::shared_ptr<const Relay::Options> how;
    bool last = false;  // final delivery: nobody behind it could notify the sender

    // Whether recipients of both may share a transaction.
    bool same_as(const QueueWay& other) const;
};

// Immutable, so any thread.
class QueueRoutes {
public:
    // std::invalid_argument names the route that makes no sense.
    QueueRoutes(const Queue::Options& options, std::shared_ptr<SessionCache> sessions,
                std::shared_ptr<HostFailures> failures);

    // May call the program's router; what that throws comes out.
    QueueWay way(const Sender& from, const Recipient& to) const;

private:
    struct Prepared {
        std::string name;
        std::shared_ptr<const Relay::Options> how;
        bool last = false;
    };
    Prepared prepare(const Route& route) const;
    const Prepared& find(const std::string& domain) const;
    static QueueWay way(const Prepared& route, const std::string& domain);

    std::string hostname_;
    std::shared_ptr<SessionCache> sessions_;
    std::shared_ptr<HostFailures> failures_;
    Router router_;
    std::map<std::string, Prepared> routes_;
    Prepared otherwise_;
};

}  // namespace Net::SMTP
