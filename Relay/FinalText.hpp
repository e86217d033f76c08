// FinalText -- what final delivery writes, in pieces; for our own .cpp files only, it is not installed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "../Server/Address.hpp"
#include "../Server/Message.hpp"
#include "LineEnds.hpp"

namespace Net::SMTP {

// Return-Path, then `head`, then the message, as one text with the line ends asked for. Holds one piece in memory,
// whatever the size.
class FinalText {
public:
    static constexpr std::size_t piece = 64 * 1024;

    // `head` is whole header fields with CRLF. std::system_error (ENODATA) when the message went into a sink: its
    // octets are not to be had.
    FinalText(const Sender& from, const std::string& head, const Message& message, LineEnds line_ends);

    // The next octets, at most a piece of them; nothing at the end. Good until the next call. std::system_error when
    // the message can't be read.
    std::string_view next();

private:
    std::size_t fill(char* to, std::size_t size);

    std::string front_;
    Message message_;
    bool lf_;
    bool after_cr_ = false;  // a CR ended the last piece, and what follows it decides whether it goes
    std::uint64_t offset_ = 0;
    std::string buffer_;
};

}  // namespace Net::SMTP
