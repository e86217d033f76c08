#include "Headers.hpp"

#include "../Client.hpp"
#include "../Fields.hpp"
#include "../Header.hpp"

namespace Net::SMTP {

namespace {

HeaderEdit missing(const Message& message, const Headers::Options& o, const std::string& hostname) {
    HeaderEdit edit;
    const bool received = o.received && message.own_received() == OwnReceived::due;
    const bool message_id = o.message_id && !message.id().empty();  // one of the program's own has none
    if (!received && !message_id) return edit;
    if (received) {
        edit.front = received_field(message, hostname);
        edit.received = OwnReceived::there;
    }
    std::string room;
    edit.front += *missing_fields(header_part(message, room), true, message.id(), hostname, message.received_at(),
                                  {.date = false, .message_id = message_id});
    return edit;
}

}  // namespace

Headers::Headers() : Headers(Options()) {}

Headers::Headers(Options options) {
    on<Event::Arrived>([options](Event::Arrived& e) {
        auto& message = e.client.MSG;
        if (!e.reply.positive() || message.sunk()) return;
        const auto edit = missing(message, options, e.client.options().hostname);
        if (!edit.front.empty()) message = message.edited(edit);
    });
}

}  // namespace Net::SMTP
