// International -- what a mail's text needs of the next hop, whatever its sender has announced; for our own .cpp files
// only, it is not installed.
#pragma once

#include <string>

#include "../Server/Message.hpp"

namespace Net::SMTP {

// Whether a header field is not ASCII: in `head`, which goes in front, in the message's own header section, or in that
// of a part of it (RFC 6532 3). Many clients say SMTPUTF8 for any mail, so that what they said tells nothing. Of a
// composite body every octet is looked at, since any may be of a part's header; where it is 8-bit, or the header
// section goes on beyond its first MiB, the answer is yes. Any thread; std::system_error when the message can't be
// read.
bool international(const std::string& head, const Message& message);

// How much of `announced` the octets need, those of `head` and of the message. BODY=8BITMIME is needed by an octet
// above 127 (RFC 6152). BINARYMIME is needed by what no text may hold, so that it would not arrive octet for octet: a
// NUL, a CR or LF that stands alone, more than 998 octets in a line, a last line without CRLF (RFC 2045 2.7 and 2.8).
// What can't be read to its end needs all of it. Any thread; std::system_error when the message can't be read.
BodyType needed_body(BodyType announced, const std::string& head, const Message& message);

}  // namespace Net::SMTP
