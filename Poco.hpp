// Poco -- sessions on Poco sockets, lines for Poco loggers. The only header here that needs Poco, for who wants it.
#pragma once

#include <Poco/Logger.h>
#include <Poco/Message.h>
#include <Poco/Net/StreamSocket.h>
#include <fcntl.h>

#include <cerrno>
#include <functional>
#include <string>
#include <string_view>
#include <system_error>

#include "Server/Connection.hpp"

namespace Net::SMTP {

// A Connection on a copy (dup) of the socket's descriptor; the Poco socket stays the caller's. Both are
// one connection: don't talk on both at once, and when the session ends it, it is ended. std::system_error when the
// socket is not connected.
inline Connection connection(const Poco::Net::StreamSocket& socket) {
    const int fd = fcntl(socket.impl()->sockfd(), F_DUPFD_CLOEXEC, 0);
    if (fd < 0) throw std::system_error(errno, std::generic_category(), "connection of a Poco socket");
    return Connection(fd);
}

// For a SessionLog or Transcript: each line is a message of that logger, as it is (no format string). The logger must
// be there as long as whoever writes; its channels must bear several threads at once, as Poco's own do.
inline std::function<void(std::string_view line)> lines_to(
    Poco::Logger& logger, Poco::Message::Priority priority = Poco::Message::PRIO_INFORMATION) {
    return [&logger, priority](std::string_view line) {
        if (logger.is(priority)) logger.log(Poco::Message(logger.name(), std::string(line), priority));
    };
}

}  // namespace Net::SMTP
