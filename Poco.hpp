// Poco -- a session on a Poco socket. The only header here that needs Poco; include it if you want it.
#pragma once

#include <Poco/Net/StreamSocket.h>
#include <fcntl.h>

#include <cerrno>
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

}  // namespace Net::SMTP
