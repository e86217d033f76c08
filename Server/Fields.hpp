// Fields -- the header fields that whoever passes a message on puts in front of it, and counts.
#pragma once

#include <cstddef>
#include <string>

#include "Address.hpp"
#include "Message.hpp"
#include "Reply.hpp"

namespace Net::SMTP {

// The Received field for a message that came as its trace says, with its CRLF (RFC 5321 4.4). `hostname` if the trace
// has none; `id` in place of the message's own, if there is one.
std::string received_field(const Message&, const std::string& hostname, const std::string& id = "");

// How often the message was received before it came to us: its Received fields, in the first MiB of its header section,
// without one of ours. 0 of a message that went into a sink. std::system_error when it can't be read.
std::size_t hops(const Message&);
// The limit, and what is said from there on: it must be going round in circles (RFC 5321 6.3).
constexpr std::size_t usual_max_hops = 100;
inline const Reply too_many_hops{554, "5.4.6", "Too many hops"};

// "Return-Path: <a@b>" with its CRLF: what final delivery adds (RFC 5321 4.4). Whatever the program made of the
// address, it stays one line.
std::string return_path_field(const Sender&);

// What this machine calls itself.
std::string system_name();

}  // namespace Net::SMTP
