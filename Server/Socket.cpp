#include "Socket.hpp"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/time.h>
#include <sys/un.h>

#include <cerrno>
#include <condition_variable>
#include <cstddef>
#include <cstring>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <system_error>
#include <thread>

namespace Net::SMTP {

Endpoint endpoint(const sockaddr_storage& address, socklen_t size) {
    char text[INET6_ADDRSTRLEN] = "";
    if (address.ss_family == AF_INET) {
        const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
        inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
        return {text, ntohs(v4.sin_port)};
    }
    if (address.ss_family == AF_INET6) {
        const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
        if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) inet_ntop(AF_INET, v6.sin6_addr.s6_addr + 12, text, sizeof text);
        else inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
        return {text, ntohs(v6.sin6_port)};
    }
    if (address.ss_family == AF_UNIX) {
        // A client's end has no name; it is local all the same.
        const auto& un = reinterpret_cast<const sockaddr_un&>(address);
        const auto length = size > offsetof(sockaddr_un, sun_path) ? size - offsetof(sockaddr_un, sun_path) : 0;
        return {length > 0 && un.sun_path[0] == '/' ? std::string(un.sun_path, strnlen(un.sun_path, length)) : "/", 0};
    }
    return {};
}

std::string customer(std::string_view host) {
    static const std::string mapped("\0\0\0\0\0\0\0\0\0\0\xFF\xFF", 12);
    auto octets = address_octets(host.substr(0, host.find('%')));  // without the zone of a link-local address
    if (octets.size() < 16) return octets;
    return octets.starts_with(mapped) ? octets.substr(12) : octets.substr(0, 8);
}

std::vector<SocketAddress> resolve(const Endpoint& e, bool passive) {
    std::vector<SocketAddress> out;
    if (e.local()) {
        SocketAddress a;
        auto& un = reinterpret_cast<sockaddr_un&>(a.storage);
        un.sun_family = AF_UNIX;
        if (e.host.size() >= sizeof un.sun_path)
            throw std::system_error(ENAMETOOLONG, std::generic_category(), e.str());
        std::memcpy(un.sun_path, e.host.c_str(), e.host.size() + 1);
        a.size = socklen_t(offsetof(sockaddr_un, sun_path) + e.host.size() + 1);
        out.push_back(a);
        return out;
    }
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICSERV | (passive ? AI_PASSIVE : 0);
    addrinfo* found = nullptr;
    const auto port = std::to_string(e.port);
    const int error = getaddrinfo(e.host.empty() ? nullptr : e.host.c_str(), port.c_str(), &hints, &found);
    if (error == EAI_SYSTEM) throw std::system_error(errno, std::generic_category(), "look up " + e.str());
    if (error != 0) throw std::runtime_error("look up " + e.str() + ": " + gai_strerror(error));
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owned(found, freeaddrinfo);
    for (auto* a = found; a; a = a->ai_next) {
        SocketAddress s;
        std::memcpy(&s.storage, a->ai_addr, a->ai_addrlen);
        s.size = a->ai_addrlen;
        out.push_back(s);
    }
    return out;
}

std::vector<SocketAddress> look_up(const Endpoint& e, const Wait& wait) {
    if (e.local() || e.host.empty() || !address_octets(e.host).empty()) return resolve(e, false);

    struct Answer {
        std::mutex mutex;
        std::condition_variable there;
        bool given = false;
        std::vector<SocketAddress> addresses;
        std::string failure;
    };
    const auto answer = std::make_shared<Answer>();
    std::thread([answer, e] {
        std::vector<SocketAddress> found;
        std::string failure;
        try {
            found = resolve(e, false);
        } catch (const std::exception& error) {
            failure = error.what();
        }
        std::lock_guard lock(answer->mutex);
        answer->addresses = std::move(found);
        answer->failure = std::move(failure);
        answer->given = true;
        answer->there.notify_all();
    }).detach();
    std::unique_lock lock(answer->mutex);
    while (!answer->given) {
        if (wait.over()) throw std::system_error(ETIMEDOUT, std::generic_category(), "look up " + e.str());
        answer->there.wait_until(lock, wait.look());
    }
    if (!answer->failure.empty()) throw std::runtime_error(answer->failure);
    return answer->addresses;
}

bool prepare_socket(int fd) {
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // a Unix socket has no such option, and needs none
    const timeval second{1, 0};
    return setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second) == 0;
}

}  // namespace Net::SMTP
