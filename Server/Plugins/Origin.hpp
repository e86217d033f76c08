// Origin -- a privacy front: nobody behind it learns which way a mail has come.
#pragma once

#include "../Event.hpp"
#include "../Plugin.hpp"

namespace Net::SMTP {

// A plugin that takes all Received fields out of a message, at Event::Arrived; and no Relay puts one of ours in front
// of it then (Message::own_received()). client.MSG is the message without them, see Message::edited(); all other octets
// stay as they are. If it can't be written anew the sender hears 451 4.3.0, the program of an Event::Trouble, and
// nobody shall take the message as it is. What is refused already stays as it is, and so does a message that went into
// a sink.
//
//     server.pipeline().add_first("origin", std::make_shared<Origin>());
//
// It belongs before all plugins that take messages. Mail that goes round in circles can't be told behind it by its
// Received fields: put a Hops before it, and don't make it part of a circle. Other fields (X-Originating-IP,
// Authentication-Results, ...) may tell as much: HeaderEdit::without takes them out in a plugin of the program's own.
class Origin : public Plugin {
public:
    Origin();
};

}  // namespace Net::SMTP
