// dns_server -- a name server over UDP and TCP on loopback that says what the test tells it to.
#pragma once

#include <arpa/inet.h>
#include <sys/eventfd.h>

#include <condition_variable>
#include <list>
#include <map>
#include <mutex>

#include "peer.hpp"

namespace test {

namespace dns {

enum Type : std::uint16_t {
    A = 1,
    CNAME = 5,
    SOA = 6,
    MX = 15,
    TXT = 16,
    AAAA = 28,
    RRSIG = 46,
    NSEC = 47,
    DNSKEY = 48,
    TLSA = 52
};
enum Code { NOERROR = 0, FORMERR = 1, SERVFAIL = 2, NXDOMAIN = 3, REFUSED = 5 };

inline std::string number(unsigned n) { return {char(n >> 8 & 255), char(n & 255)}; }
inline unsigned number(std::string_view octets, std::size_t at) {
    return unsigned(static_cast<unsigned char>(octets.at(at)) << 8 | static_cast<unsigned char>(octets.at(at + 1)));
}

// A name as octets, uncompressed. "" is the root.
inline std::string wire(std::string_view name) {
    std::string out;
    while (!name.empty()) {
        const auto label = name.substr(0, name.find('.'));
        out += char(label.size());
        out += label;
        name.remove_prefix(std::min(label.size() + 1, name.size()));
    }
    return out + '\0';
}

struct Record {
    std::string name;
    unsigned type;
    std::string rdata;
    unsigned ttl = 300;

    std::string wire() const {
        return dns::wire(name) + number(type) + number(1) + number(ttl >> 16) + number(ttl) +
               number(unsigned(rdata.size())) + rdata;
    }
};
using Records = std::vector<Record>;

inline std::string address(const std::string& text) {
    std::string out(text.find(':') == text.npos ? 4 : 16, '\0');
    if (inet_pton(out.size() == 4 ? AF_INET : AF_INET6, text.c_str(), out.data()) != 1)
        throw std::runtime_error("not an address: " + text);
    return out;
}
inline Record a(const std::string& name, const std::string& text) {
    return {name, unsigned(text.find(':') == text.npos ? A : AAAA), address(text)};
}
inline Record mx(const std::string& name, unsigned preference, const std::string& host) {
    return {name, MX, number(preference) + wire(host)};
}
inline Record cname(const std::string& name, const std::string& target) { return {name, CNAME, wire(target)}; }
inline Record txt(const std::string& name, const std::vector<std::string>& strings) {
    std::string rdata;
    for (const auto& s : strings) rdata += char(s.size()) + s;
    return {name, TXT, rdata};
}
// What says for how long nothing is there: a minute.
inline Record soa(const std::string& zone) {
    return {zone, SOA,
            wire("ns." + zone) + wire("hostmaster." + zone) +
                std::string("\0\0\0\1\0\0\x0e\x10\0\0\x0e\x10\0\1\0\0\0\0\0\x3c", 20)};
}

struct Answer {
    enum Manner {
        plain,
        silent,     // never comes
        held,       // when the test lets it go
        truncated,  // over UDP: come by TCP
        cut,        // the same, and over TCP the connection ends in the middle of it
        garbled,    // what belongs to no question comes first
        broken,     // the half of it
    };
    Records records{};
    Code code = NOERROR;
    Manner manner = plain;
    Records authority{};
};

}  // namespace dns

// Serves 127.0.0.1 (or ::1) from its construction on. A name it was told nothing of does not exist; one of which it
// knows something of another type has no data.
class DnsServer {
public:
    explicit DnsServer(const std::string& host = "127.0.0.1") : v6_(host.find(':') != host.npos) {
        for (int tries = 0; tries < 20 && tcp_ < 0; ++tries) open();
        if (tcp_ < 0) throw std::runtime_error("no port that is free for UDP and TCP");
        thread_ = Background([this] { serve(); });
    }
    ~DnsServer() {
        ending_ = true;
        wake();
        try {
            thread_.join();
        } catch (const std::exception& e) {
            MESSAGE("name server: " << e.what());
        }
        for (const auto& c : connections_) close(c.fd);
        for (const int fd : {udp_, tcp_, wake_}) close(fd);
    }
    DnsServer(const DnsServer&) = delete;
    DnsServer& operator=(const DnsServer&) = delete;

    std::string address() const { return (v6_ ? "[::1]:" : "127.0.0.1:") + std::to_string(port_); }

    void tell(const std::string& name, dns::Type type, dns::Answer answer) {
        std::lock_guard lock(mutex_);
        table_[{name, type}] = std::move(answer);
    }
    // The records of one name and type, whichever they are.
    void tell(const dns::Records& records) { tell(records.at(0).name, dns::Type(records.at(0).type), {records}); }
    // As if the machine were off, or on again.
    void off(bool is_off) { off_ = is_off; }
    // Sends what is held, and holds nothing more.
    void release() {
        released_ = true;
        wake();
    }
    // How often that was asked so far, over UDP and TCP.
    int asked(const std::string& name) {
        std::lock_guard lock(mutex_);
        return asked_[name];
    }
    int asked() {
        std::lock_guard lock(mutex_);
        int all = 0;
        for (const auto& [name, times] : asked_) all += times;
        return all;
    }
    int by_tcp() const { return by_tcp_; }
    // Returns when that was asked.
    void wait_for(const std::string& name) {
        std::unique_lock lock(mutex_);
        if (!heard_.wait_for(lock, patience, [&] { return asked_[name] > 0; }))
            throw std::runtime_error("nobody asked for " + name);
    }

private:
    struct Address {
        sockaddr_storage storage{};
        socklen_t size = sizeof(sockaddr_storage);
        sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
    };
    struct Held {
        Address to;
        std::string octets;
    };
    struct Caller {
        int fd;
        std::string buffer{};
    };

    void open() {
        Address at;
        if (v6_) {
            auto& v6 = reinterpret_cast<sockaddr_in6&>(at.storage);
            v6.sin6_family = AF_INET6;
            v6.sin6_addr = in6addr_loopback;
            at.size = sizeof v6;
        } else {
            auto& v4 = reinterpret_cast<sockaddr_in&>(at.storage);
            v4.sin_family = AF_INET;
            v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
            at.size = sizeof v4;
        }
        const int family = v6_ ? AF_INET6 : AF_INET;
        if (udp_ >= 0) close(udp_);
        udp_ = socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (bind(udp_, at.get(), at.size) != 0) throw std::runtime_error("no UDP");
        getsockname(udp_, at.get(), &at.size);
        port_ = ntohs(reinterpret_cast<sockaddr_in&>(at.storage).sin_port);  // where sin6_port is, too
        const int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (bind(fd, at.get(), at.size) == 0 && listen(fd, 16) == 0) tcp_ = fd;
        else close(fd);
    }

    void wake() {
        const std::uint64_t one = 1;
        [[maybe_unused]] const auto n = write(wake_, &one, sizeof one);
    }

    void serve() {
        while (!ending_) {
            std::vector<pollfd> fds{{wake_, POLLIN, 0}, {udp_, POLLIN, 0}, {tcp_, POLLIN, 0}};
            for (const auto& c : connections_) fds.push_back({c.fd, POLLIN, 0});
            poll(fds.data(), fds.size(), -1);
            std::uint64_t count;
            [[maybe_unused]] const auto n = read(wake_, &count, sizeof count);
            if (released_) let_go();
            std::size_t i = 3;
            for (auto c = connections_.begin(); c != connections_.end();) {
                const auto here = c++;
                if (fds[i++].revents == 0 || hear(*here)) continue;
                close(here->fd);
                connections_.erase(here);
            }
            if (fds[2].revents != 0) {
                const int fd = accept4(tcp_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
                if (fd >= 0) connections_.push_back({fd});
            }
            if (fds[1].revents != 0) datagrams();
        }
    }

    void let_go() {
        for (auto& h : held_) sendto(udp_, h.octets.data(), h.octets.size(), 0, h.to.get(), h.to.size);
        held_.clear();
    }

    void datagrams() {
        for (;;) {
            std::string query(4096, '\0');
            Address from;
            const auto n = recvfrom(udp_, query.data(), query.size(), 0, from.get(), &from.size);
            if (n < 0) return;
            query.resize(std::size_t(n));
            const auto say = [&](const std::string& octets) {
                sendto(udp_, octets.data(), octets.size(), 0, from.get(), from.size);
            };
            const auto answer = look_up(query);
            if (off_ || answer.manner == dns::Answer::silent) continue;
            const auto octets = reply(query, answer, true);
            if (answer.manner == dns::Answer::held && !released_) {
                held_.push_back({from, octets});
                continue;
            }
            if (answer.manner == dns::Answer::garbled) {
                const auto lie = reply(query, {{dns::a(name_in(query), "192.0.2.66")}}, true);
                auto other_id = lie;
                other_id[0] = char(other_id[0] ^ 1);
                for (const auto& garbage : {other_id, lie.substr(0, 11), lie.substr(0, 1)}) say(garbage);
            }
            say(answer.manner == dns::Answer::broken ? octets.substr(0, octets.size() / 2) : octets);
        }
    }

    // False when the connection is over.
    bool hear(Caller& caller) {
        char octets[4096];
        const auto n = recv(caller.fd, octets, sizeof octets, 0);
        if (n <= 0) return n < 0 && errno == EAGAIN;
        caller.buffer.append(octets, std::size_t(n));
        while (caller.buffer.size() >= 2 && caller.buffer.size() >= 2 + dns::number(caller.buffer, 0)) {
            const auto query = caller.buffer.substr(2, dns::number(caller.buffer, 0));
            caller.buffer.erase(0, 2 + query.size());
            ++by_tcp_;
            const auto answer = look_up(query);
            if (off_ || answer.manner == dns::Answer::silent) continue;
            auto message = reply(query, answer, false);
            message = dns::number(unsigned(message.size())) + message;
            if (answer.manner == dns::Answer::cut) message.resize(message.size() / 2);
            for (std::string_view rest = message; !rest.empty();) {
                pollfd out{caller.fd, POLLOUT, 0};
                poll(&out, 1, int(std::chrono::milliseconds(patience).count()));
                const auto sent = send(caller.fd, rest.data(), rest.size(), MSG_NOSIGNAL);
                if (sent <= 0) return false;
                rest.remove_prefix(std::size_t(sent));
            }
            if (answer.manner == dns::Answer::cut) return false;
        }
        return true;
    }

    // The question's name in lower case, and where its type stands.
    static std::string name_in(std::string_view query, std::size_t* end = nullptr) {
        std::string name;
        std::size_t at = 12;
        while (query.at(at) != 0) {
            if (!name.empty()) name += '.';
            for (const char c : query.substr(at + 1, std::size_t(query[at])))
                name += char(c >= 'A' && c <= 'Z' ? c + 32 : c);
            at += std::size_t(query[at]) + 1;
        }
        if (end) *end = at + 1;
        return name;
    }

    dns::Answer look_up(std::string_view query) {
        std::size_t end = 0;
        const auto name = name_in(query, &end);
        const auto type = dns::Type(dns::number(query, end));
        std::lock_guard lock(mutex_);
        ++asked_[name];
        heard_.notify_all();
        if (const auto found = table_.find({name, type}); found != table_.end()) return found->second;
        const auto any = table_.lower_bound({name, dns::Type(0)});
        const bool known = any != table_.end() && any->first.first == name;
        return {{}, known ? dns::NOERROR : dns::NXDOMAIN, dns::Answer::plain, {dns::soa("")}};
    }

    static std::string reply(std::string_view query, const dns::Answer& answer, bool by_udp) {
        using dns::number;
        std::size_t end = 0;
        name_in(query, &end);
        const bool cut = by_udp && (answer.manner == dns::Answer::truncated || answer.manner == dns::Answer::cut);
        // QR, RD, RA
        std::string out =
            std::string(query.substr(0, 2)) + number(0x8180u | (cut ? 0x200u : 0u) | unsigned(answer.code));
        out += number(1) + number(cut ? 0 : unsigned(answer.records.size())) +
               number(cut ? 0 : unsigned(answer.authority.size())) + number(1);
        out += query.substr(12, end + 4 - 12);
        if (!cut)
            for (const auto* section : {&answer.records, &answer.authority})
                for (const auto& record : *section) out += record.wire();
        return out + std::string("\0\0\x29\x10\0\0\0\x80\0\0\0", 11);  // OPT: EDNS, DNSSEC OK
    }

    const bool v6_;
    int udp_ = -1, tcp_ = -1, wake_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    unsigned port_ = 0;
    std::atomic<bool> ending_{false}, off_{false}, released_{false};
    std::atomic<int> by_tcp_{0};
    std::mutex mutex_;
    std::condition_variable heard_;
    std::map<std::pair<std::string, dns::Type>, dns::Answer> table_;
    std::map<std::string, int> asked_;
    // The thread's:
    std::vector<Held> held_;
    std::list<Caller> connections_;
    Background thread_;
};

}  // namespace test
