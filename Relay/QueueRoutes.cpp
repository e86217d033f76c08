#include "QueueRoutes.hpp"

#include <stdexcept>
#include <tuple>

namespace Net::SMTP {

// A router may make its options anew each time.
bool QueueWay::same_as(const QueueWay& other) const {
    const auto of = [](const QueueWay& way) {
        const auto& o = *way.how;
        return std::tie(way.name, o.host, o.resolver, o.mx_port, o.target, o.login, o.hostname);
    };
    return how == other.how || (of(*this) == of(other) && how->tls == other.how->tls);
}

QueueRoutes::QueueRoutes(const Queue::Options& options, std::shared_ptr<SessionCache> sessions,
                         std::shared_ptr<HostFailures> failures)
    : hostname_(options.hostname),
      sessions_(std::move(sessions)),
      failures_(std::move(failures)),
      router_(options.router) {
    for (const auto& [domain, route] : options.routes) {
        if (lower_case(domain) != domain)
            throw std::invalid_argument("Queue::Options: routes: not in small letters: " + domain);
        try {
            routes_.emplace(domain, prepare(route));
        } catch (const std::invalid_argument& e) {
            throw std::invalid_argument("Queue::Options: routes: " + domain + ": " + e.what());
        }
    }
    otherwise_ = prepare({"", options.otherwise});
}

// As deliveries use it: with what the queue has for all of them.
QueueRoutes::Prepared QueueRoutes::prepare(const Route& route) const {
    auto how = route.how;
    if (!how.target) Relay(Sender(""), {}, Message(), how);  // looks at its options, and no further
    if (!how.sessions) how.sessions = sessions_;
    if (!how.failures) how.failures = failures_;
    if (how.hostname.empty()) how.hostname = hostname_;
    how.partial = true;
    how.received = false;  // it has its own since it came
    how.at_rcpt = how.one_domain = false;
    const auto lmtp = [&] { return how.host.starts_with("lmtp:"); };
    const auto name = !route.name.empty() ? route.name
                      : how.target        ? how.target->name()
                      : !how.host.empty() ? "via " + how.host
                                          : std::string();
    const bool last = how.target || lmtp();
    return {name, std::make_shared<const Relay::Options>(std::move(how)), last};
}

const QueueRoutes::Prepared& QueueRoutes::find(const std::string& domain) const {
    if (routes_.empty()) return otherwise_;
    if (const auto exact = routes_.find(domain); exact != routes_.end()) return exact->second;
    for (auto dot = domain.find('.'); dot != domain.npos; dot = domain.find('.', dot + 1))
        if (const auto above = routes_.find(domain.substr(dot)); above != routes_.end()) return above->second;
    return otherwise_;
}

QueueWay QueueRoutes::way(const Prepared& route, const std::string& domain) {
    return {route.name.empty() ? domain : route.name, route.how, route.last};
}

QueueWay QueueRoutes::way(const Sender& from, const Recipient& to) const {
    const auto domain = lower_case(to.domain);
    if (router_)
        if (const auto chosen = router_(from, to)) return way(prepare(*chosen), domain);
    return way(find(domain), domain);
}

}  // namespace Net::SMTP
