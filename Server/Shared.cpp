#include "Shared.hpp"

#include <poll.h>
#include <unistd.h>

#include <algorithm>

#include "Event.hpp"

namespace Net::SMTP {

namespace {

// For ever, as far as a clock can hold it.
constexpr std::chrono::hours longest_wait(24 * 365 * 100);

Options completed(Options o) {
    if (o.hostname.empty()) {
        char name[256] = "";
        if (gethostname(name, sizeof name - 1) != 0 || !name[0]) name[0] = 0;
        o.hostname = name[0] ? name : "localhost";
    }
    o.max_command_line = std::max<std::size_t>(o.max_command_line, 512);
    o.check();
    for (auto* t : {&o.command_timeout, &o.block_timeout, &o.data_timeout, &o.session_timeout, &o.data_grace,
                    &o.handshake_timeout, &o.auth_delay, &o.auth_window})
        *t = std::min<Options::seconds>(*t, longest_wait);
    return o;
}

}  // namespace

Shared::Shared(Options o)
    : options(completed(std::move(o))),
      memory(std::make_shared<Budget>(options.memory)),
      auth_failures(options.auth_failures_per_ip, options.auth_window) {}

Shared::~Shared() {
    if (stop_fd >= 0) close(stop_fd);
}

Deadline Shared::drained() {
    auto end = drained_.load();
    if (end == 0) {
        const auto first = (std::chrono::steady_clock::now() + drain).time_since_epoch().count();
        end = drained_.compare_exchange_strong(end, first) ? first : end;
    }
    return Deadline(Deadline::duration(end));
}

// A forked child can't see the flag that its parent sets, only the descriptor.
bool Shared::stop_seen() {
    if (forked && !stopping) {
        pollfd stop{stop_fd, POLLIN, 0};
        if (poll(&stop, 1, 0) > 0) stopping = true;
    }
    return stopping.load(std::memory_order_relaxed);
}

void Shared::trouble(Server::Client* client, const std::string& what) noexcept {
    try {
        Event::Trouble event(client, what);
        pipeline.send(event);
    } catch (...) {
    }
}

Wait Shared::wait(std::shared_ptr<Shared> server, Deadline end) {
    if (!server) return end;
    return {end, [server] { return server->stop_seen() && std::chrono::steady_clock::now() >= server->drained(); }};
}

Slot::Slot(std::shared_ptr<Shared> shared, std::string ip)
    : shared_(std::move(shared)), ip_(std::move(ip)), owner_(getpid()) {
    const auto& o = shared_->options;
    std::lock_guard lock(shared_->mutex);
    const auto same = ip_.empty() ? 0 : ++shared_->per_ip[ip_];  // the one thing that may throw
    const auto all = ++shared_->connections;
    over_ = (o.max_connections > 0 && all > o.max_connections) ||
            (o.max_connections_per_ip > 0 && same > o.max_connections_per_ip);
    if (!over_) return;
    give_back();  // who is turned away takes nobody's place
    hurried_ = ++shared_->turned_away > most_waited_for;
}

Slot::~Slot() {
    if (getpid() != owner_) return;  // a forked copy: the place is the parent's, and so is the lock
    std::lock_guard lock(shared_->mutex);
    if (over_) --shared_->turned_away;
    else give_back();
}

// With the lock held.
void Slot::give_back() {
    --shared_->connections;
    const auto ip = shared_->per_ip.find(ip_);
    if (ip != shared_->per_ip.end() && --ip->second == 0) shared_->per_ip.erase(ip);
}

}  // namespace Net::SMTP
