// BounceParts -- the three parts of a notification; for our own .cpp files only, it is not installed.
#pragma once

#include <string>
#include <vector>

#include "Bounce.hpp"

namespace Net::SMTP {

// What all parts need to know. It does not outlive what it was made of.
struct Notice {
    const NoticeFrom& us;
    const QueueTask& mail;
    std::vector<const DeliveryStatus*> about;  // wanted, at least one
    bool utf8 = false;                         // goes by SMTPUTF8
};

// One part of a multipart: its header fields with their CRLF, and its octets.
struct Part {
    std::string fields;
    std::string body;
    bool eight_bit = false;
};

// What is returned of the message; `note` tells people what it is, or why it is not more.
struct Returned {
    Part part;
    std::string note;
};
Returned returned_part(const Notice&, const Message& text);
// For people. `note` about what is returned comes last.
Part text_part(const Notice&, const std::string& note);
// For programs: message/delivery-status.
Part status_part(const Notice&);

// "Sat, 1 Nov 2025 07:00:00 +0000".
std::string date_time(QueueTime);

}  // namespace Net::SMTP
