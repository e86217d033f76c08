// Endpoint -- one end of a connection, as text and number; and networks of them.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace Net::SMTP {

// A host and port, or the path of a Unix socket. A value without meaning of its own: nothing is looked up.
struct Endpoint {
    std::string host;  // "192.0.2.1", "2001:db8::1" (no brackets), a name; or "/path", then port is 0; "" unknown
    std::uint16_t port = 0;

    // "192.0.2.1:25", "[2001:db8::1]:25", "unix:/path"; "" when unknown.
    std::string str() const;
    bool local() const { return host.starts_with('/'); }

    // Reads "HOST:PORT", "[IPv6]:PORT", "HOST" or "[IPv6]" (then with `default_port`), "unix:/path" and ":PORT" (host
    // ""). std::invalid_argument names what can't be parsed.
    static Endpoint parse(std::string_view text, std::uint16_t default_port);

    bool operator==(const Endpoint&) const = default;
};

// The 4 or 16 octets of an IPv4 or IPv6 address (no brackets); "" for anything else, a name for example.
std::string address_octets(std::string_view host);

// A set of networks: "127.0.0.0/8, ::1 2001:db8::/32". An IPv4 address written as IPv6 (::ffff:192.0.2.1) is that IPv4
// address; and in no network of IPv6 addresses, as ::/0 is, but in one that is written as ::ffff:192.0.2.0/120.
class Networks {
public:
    Networks() = default;
    // Addresses or prefixes, separated by commas or blanks. std::invalid_argument names what can't be parsed, and a
    // prefix that has more than its bits (192.0.2.1/24).
    explicit Networks(std::string_view list);
    // Whether the address, as text, is in one of them. A Unix socket's path is where 127.0.0.1 is; a name is nowhere.
    bool contains(std::string_view host) const;
    bool contains(const Endpoint& e) const { return contains(e.host); }

private:
    struct Network {
        std::array<unsigned char, 16> prefix;
        int bits;
    };
    static bool whole(const Network& n);

    std::vector<Network> all_;
};

}  // namespace Net::SMTP
