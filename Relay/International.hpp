// International -- whether a mail's text can only go by SMTPUTF8; for our own .cpp files only, it is not installed.
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

}  // namespace Net::SMTP
