// endpoint -- hosts, ports, next hops and networks as people write them: what is understood can be written again.
#include "../../Server/Endpoint.hpp"

#include <arpa/inet.h>

#include <stdexcept>

#include "../../Relay/Session.hpp"
#include "fuzz.hpp"

using namespace Net::SMTP;
using fuzz::require, fuzz::same;

namespace {

void check_endpoint(std::string_view text) {
    try {
        const auto e = Endpoint::parse(text, 25);
        require(e.host.find('\0') == e.host.npos, "no name holds a NUL", e.host);
        require(!e.local() || e.port == 0, "a path has no port", text);
        if (e.str().empty()) return;
        require(Endpoint::parse(e.str(), 1) == e, "it can be written again", text, e.str());
    } catch (const std::invalid_argument& refused) {
        require(*refused.what() != 0, "it says what is wrong");
    }
}

void check_next_hop(std::string_view text) {
    try {
        const auto hop = Upstream::parse(text);
        const bool lmtp = hop.protocol == Protocol::lmtp;
        require(!hop.endpoint.host.empty(), "a next hop is somewhere", text);
        require(hop.endpoint.local() || hop.endpoint.port != 0, "and can be connected to", text);
        require(!lmtp || hop.endpoint.port != 25, "LMTP is not for port 25 (RFC 2033 5)", text);
        require(Upstream::parse((lmtp ? "lmtp:" : "smtp:") + hop.str()) == hop, "it can be written again", hop.str());
    } catch (const std::invalid_argument& refused) {
        require(*refused.what() != 0, "it says what is wrong");
    }
}

// Bit by bit, in 128 of them.
bool within(std::string address, std::string prefix, unsigned bits) {
    const auto wide = [](std::string octets) {
        return octets.size() == 4 ? std::string(10, '\0') + "\xFF\xFF" + octets : octets;
    };
    if (prefix.size() == 4) bits += 96;
    address = wide(address), prefix = wide(prefix);
    for (unsigned i = 0; i < bits; ++i)
        if (((address[i / 8] ^ prefix[i / 8]) >> (7 - i % 8) & 1) != 0) return false;
    return true;
}

void check_networks(std::string_view text, std::string_view host) {
    try {
        const Networks networks(text);
        const auto address = address_octets(host);
        if (address.empty())
            return require(!networks.contains(host) || host.starts_with('/'), "a name is nowhere", host);
        // One network, which may have a length.
        const auto slash = std::min(text.find('/'), text.size());
        const auto prefix = address_octets(text.substr(0, slash));
        if (prefix.empty()) return;
        const auto bits = slash < text.size() ? unsigned(std::stoul(std::string(text.substr(slash + 1))))
                                              : unsigned(prefix.size()) * 8;
        if (text.find_first_of(", \t\n") == text.npos)
            same(networks.contains(host), within(address, prefix, bits), "an address is in a network, or not");
    } catch (const std::invalid_argument& refused) {
        require(*refused.what() != 0, "it says what is wrong");
    }
}

}  // namespace

void fuzz::run(Input input) {
    const auto text = input.until('\n'), host = input.rest();
    check_endpoint(text);
    check_next_hop(text);
    check_networks(text, host);
}
