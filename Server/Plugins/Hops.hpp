// Hops -- refuses mail that goes round in circles, when it arrives.
#pragma once

#include <cstddef>

#include "../Event.hpp"
#include "../Fields.hpp"
#include "../Plugin.hpp"

namespace Net::SMTP {

// A plugin for programs that keep mail, or pass it on in another way than by a Relay, which looks itself: at
// Event::Arrived a message that was received `max_hops` times before hears 554 5.4.6 (RFC 5321 6.3), by the Relay's own
// count, see hops(). 451 4.3.0, and an Event::Trouble, when the message can't be read. Before a plugin that takes
// messages, or Received fields out of them (Origin).
//
//     server.pipeline().add_first("hops", std::make_shared<Hops>());
class Hops : public Plugin {
public:
    // std::invalid_argument: 0, by which all mail would be refused.
    explicit Hops(std::size_t max_hops = usual_max_hops);
};

}  // namespace Net::SMTP
