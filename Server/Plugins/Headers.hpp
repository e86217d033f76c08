// Headers -- the fields that a message is given when it is received, for programs that keep it themselves.
#pragma once

#include "../Event.hpp"
#include "../Plugin.hpp"

namespace Net::SMTP {

// A plugin for programs that keep mail themselves, by save() or in a database: at Event::Arrived client.MSG is given
// the fields that a Relay or Options::complete would have given it. Who comes behind does not do so again: of each a
// message has one for this reception, whoever was first. See Message::edited(); all octets behind them stay as they
// are. If it can't be written anew the sender hears 451 4.3.0, the program of an Event::Trouble. What is refused
// already stays as it is, and so does a message that went into a sink.
//
//     server.pipeline().add("headers", std::make_shared<Headers>());
//
// It belongs before all plugins that take messages; behind Origin it adds no Received field.
class Headers : public Plugin {
public:
    struct Options {
        bool received = true;  // Received (RFC 5321 4.4), first of all
        // "Message-ID: <ID@HOSTNAME>", by Message::id(), if the first MiB of the header section has none. A text that
        // begins without a header section is given an empty line as well.
        bool message_id = true;
    };
    Headers();
    explicit Headers(Options options);
};

}  // namespace Net::SMTP
