#include "Origin.hpp"

#include "../Client.hpp"

namespace Net::SMTP {

Origin::Origin() {
    on<Event::Arrived>([](Event::Arrived& e) {
        auto& message = e.client.MSG;
        if (!e.reply.positive() || message.sunk()) return;
        message = message.edited({.without = "Received", .received = OwnReceived::unwanted});
    });
}

}  // namespace Net::SMTP
