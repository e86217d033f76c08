// Route -- which way mail goes from a queue.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "Relay.hpp"

namespace Net::SMTP {

// Those that have one `name` share their limit of deliveries at once. "": the smart host's or the target's own name, by
// MX the recipient's domain.
struct Route {
    std::string name{};
    Relay::Options how{};
};
// Which way a recipient's mail goes; nullopt: it is for others to say. Called by several threads at once, for each try;
// what it throws makes the mail wait, and is an Event::Trouble.
// Asked of postmaster in a domain, with a null sender, it tells where most of that domain's mail goes.
using Router = std::function<std::optional<Route>(const Sender& from, const Recipient& to)>;

}  // namespace Net::SMTP
