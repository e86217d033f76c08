// Socket -- the system's addresses behind Endpoint; for our own .cpp files only, it is not installed.
#pragma once

#include <sys/socket.h>

#include <string>
#include <string_view>
#include <vector>

#include "Endpoint.hpp"
#include "Wait.hpp"

namespace Net::SMTP {

struct SocketAddress {
    sockaddr_storage storage{};
    socklen_t size = 0;
    const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
    int family() const { return storage.ss_family; }
};

// As text; IPv4 mapped into IPv6 as IPv4.
Endpoint endpoint(const sockaddr_storage&, socklen_t);

// What counts as one client where somebody counts them: an IPv4 address or, since one customer has as much, a /64 of
// IPv6; as octets. "" of what is no IP address.
std::string customer(std::string_view host);

// All addresses of an endpoint; with `passive` an empty host means every interface. std::system_error or
// std::runtime_error with the endpoint's name when there is none.
std::vector<SocketAddress> resolve(const Endpoint&, bool passive);

// The same for somebody to connect to, and no longer than `wait`: the system's own look-up of a name, which knows no
// deadline, goes on without us then. ETIMEDOUT.
std::vector<SocketAddress> look_up(const Endpoint&, const Wait& wait);

// No delay for small replies, and no recv that waits longer than a second. False if the system would not have it.
bool prepare_socket(int fd);

}  // namespace Net::SMTP
