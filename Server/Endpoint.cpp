#include "Endpoint.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <optional>
#include <stdexcept>

namespace Net::SMTP {

namespace {

[[noreturn]] void malformed(std::string_view what, std::string_view text) {
    throw std::invalid_argument(std::string(what) + ": " + std::string(text));
}

template <class Number>
std::optional<Number> number(std::string_view text) {
    Number n{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
    if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return n;
}

constexpr std::array<unsigned char, 12> mapping{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};  // ::ffff:0:0/96

// As 16 octets, IPv4 mapped.
std::optional<std::array<unsigned char, 16>> octets(std::string_view host, int& bits) {
    const auto address = address_octets(host);
    if (address.empty()) return std::nullopt;
    std::array<unsigned char, 16> out{};
    if (address.size() == 4) std::copy(mapping.begin(), mapping.end(), out.begin());
    std::copy(address.begin(), address.end(), out.end() - std::ptrdiff_t(address.size()));
    bits = int(address.size()) * 8;
    return out;
}

}  // namespace

std::string address_octets(std::string_view host) {
    std::array<char, 16> out{};
    if (host.find('\0') != host.npos) return "";
    const std::string text(host);
    if (inet_pton(AF_INET, text.c_str(), out.data()) == 1) return {out.data(), 4};
    if (inet_pton(AF_INET6, text.c_str(), out.data()) == 1) return {out.data(), 16};
    return "";
}

std::string Endpoint::str() const {
    if (host.empty() && port == 0) return "";
    if (local()) return "unix:" + host;
    const bool v6 = host.find(':') != host.npos;
    return (v6 ? '[' + host + ']' : host) + ':' + std::to_string(port);
}

Endpoint Endpoint::parse(std::string_view text, std::uint16_t default_port) {
    const auto whole = text;
    if (text.starts_with("unix:")) {
        if (text.size() < 7 || text[5] != '/' || text.find('\0') != text.npos)
            malformed("not a Unix socket's absolute path", whole);
        return {std::string(text.substr(5)), 0};
    }
    Endpoint e{"", default_port};
    if (text.starts_with('[')) {
        const auto close = text.find(']');
        if (close == text.npos || address_octets(text.substr(1, close - 1)).empty()) malformed("not an address", whole);
        e.host.assign(text.substr(1, close - 1));
        text.remove_prefix(close + 1);
        if (!text.empty() && !text.starts_with(':')) malformed("not an address", whole);
    } else {
        const auto colon = std::min(text.find(':'), text.size());
        if (text.find(':', colon + 1) != text.npos) malformed("an IPv6 address needs brackets", whole);
        e.host.assign(text.substr(0, colon));
        text.remove_prefix(colon);
        auto fits = [](unsigned char c) { return std::isalnum(c) || c == '.' || c == '-' || c == '_'; };
        if (!std::all_of(e.host.begin(), e.host.end(), fits)) malformed("not a host", whole);
    }
    if (text.empty()) return e;
    const auto port = number<std::uint16_t>(text.substr(1));
    if (!port) malformed("not a port", whole);
    e.port = *port;
    return e;
}

Networks::Networks(std::string_view list) {
    auto separator = [](char c) { return c == ',' || c == ' ' || c == '\t' || c == '\n'; };
    while (!list.empty()) {
        const auto end = std::find_if(list.begin(), list.end(), separator) - list.begin();
        const auto item = list.substr(0, end);
        list.remove_prefix(std::min<std::size_t>(end + 1, list.size()));
        if (item.empty()) continue;

        const auto slash = std::min(item.find('/'), item.size());
        auto host = item.substr(0, slash);
        if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
        int width = 0;
        const auto prefix = octets(host, width);
        if (!prefix) malformed("not a network", item);
        int bits = width;
        if (slash < item.size()) {
            const auto n = number<unsigned>(item.substr(slash + 1));
            if (!n || *n > unsigned(width)) malformed("not a network", item);
            bits = int(*n);
        }
        const Network network{*prefix, 128 - width + bits};
        if (!whole(network)) malformed("not a network, as more of the address is set than its bits", item);
        all_.push_back(network);
    }
}

// Who writes 192.0.2.1/2, or ::ffff:192.0.2.0/24, does not mean a quarter of all addresses.
bool Networks::whole(const Network& n) {
    for (int bit = n.bits; bit < 128; ++bit)
        if (n.prefix[bit / 8] & (0x80 >> bit % 8)) return false;
    return true;
}

bool Networks::contains(std::string_view host) const {
    if (host.starts_with('/')) host = "127.0.0.1";
    int width = 0;
    const auto address = octets(host, width);
    if (!address) return false;
    const bool v4 = std::equal(mapping.begin(), mapping.end(), address->begin());
    return std::any_of(all_.begin(), all_.end(), [&](const Network& n) {
        if (v4 && n.bits < 96) return false;
        if (std::memcmp(n.prefix.data(), address->data(), n.bits / 8) != 0) return false;
        const int rest = n.bits % 8;
        const auto mask = static_cast<unsigned char>(0xFF00 >> rest);
        return rest == 0 || ((n.prefix[n.bits / 8] ^ (*address)[n.bits / 8]) & mask) == 0;
    });
}

}  // namespace Net::SMTP
