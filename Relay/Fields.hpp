// Fields -- the header fields that whoever passes a message on puts in front of it.
#pragma once

#include <string>

#include "../Server/Address.hpp"
#include "../Server/Message.hpp"

namespace Net::SMTP {

// The Received field for a message that came as its trace says, with its CRLF (RFC 5321 4.4). `hostname` if the trace
// has none.
std::string received_field(const Message&, const std::string& hostname);

// "Return-Path: <a@b>" with its CRLF: what final delivery adds (RFC 5321 4.4). Whatever the program made of the
// address, it stays one line.
std::string return_path_field(const Sender&);

// What this machine calls itself.
std::string system_name();

}  // namespace Net::SMTP
