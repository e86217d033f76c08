// OwnSender -- ties the sender of a mail to the user who has authenticated (RFC 6409 6.1).
#pragma once

#include <string>

#include "Address.hpp"
#include "Event.hpp"

namespace Net::SMTP {

// Whether the address is the user's, by the user's name: it is the whole address, or a local part at `domain`, at any
// domain if that is empty. Compared as by same_mailbox(). The null sender is everybody's (RFC 6409 3.2).
bool owns(const std::string& user, const Address& sender, const std::string& domain = "");

// A listener that refuses by 550 5.7.1 who does not own his sender:
//
//     server.on<Event::Mail>(OwnSender{"example.org"});
//
// Where users have other addresses too, a listener of the program's own asks for them instead; it finds the user in
// client.user().
struct OwnSender {
    std::string domain{};
    void operator()(Event::Mail& e) const;
};

}  // namespace Net::SMTP
