// records -- answers of the DNS taken apart: what is malformed is left out, and no name is more than a name.
#include <algorithm>

#include "../../Server/Resolver.hpp"
#include "fuzz.hpp"

using namespace Net::SMTP;
using fuzz::require, fuzz::same;

namespace {

// The name back on the wire (RFC 1035 3.1).
std::string wire(const std::string& name) {
    std::string out;
    for (std::size_t at = 0; at < name.size();) {
        const auto dot = std::min(name.find('.', at), name.size());
        out += char(dot - at);
        out += name.substr(at, dot - at);
        at = dot + 1;
    }
    return out + '\0';
}

void check_exchanger(const std::string& data, const MailExchanger& mx) {
    const std::string preference{char(mx.preference >> 8), char(mx.preference & 255)};
    same(preference + wire(mx.host), data, "a host is what the record says");
    require(mx.host.size() <= 253, "a name has a limit", mx.host);
    for (const char c : mx.host) require(c > 32 && c < 127, "a name is printable", mx.host);
}

}  // namespace

void fuzz::run(Input input) {
    Records records;
    records.status = Records::Status::found;
    for (int n = 1 + input.octet() % 4; n > 0; --n) records.data.emplace_back(input.until('\n'));

    for (const auto& data : records.data) {
        const Records one{.status = Records::Status::found, .data = {data}};
        const auto hosts = mail_exchangers(one);
        require(hosts.size() <= 1, "a record is one record");
        if (!hosts.empty()) check_exchanger(data, hosts.front());

        const auto found = addresses(one);
        same(found.size(), std::size_t(data.size() == 4 || data.size() == 16), "an address has 4 octets, or 16");

        std::size_t at = 0, strings = 0, octets = 0;
        for (; at < data.size(); ++strings) {
            octets += static_cast<unsigned char>(data[at]);
            at += 1 + static_cast<unsigned char>(data[at]);
        }
        const bool whole = strings > 0 && at == data.size();
        const auto text = texts(one);
        same(text.size(), std::size_t(whole), "a text is of whole strings");
        if (whole) same(text.front().size(), octets, "and is all of them");

        const auto certificates = tlsa(one);
        same(certificates.size(), std::size_t(data.size() > 3), "a TLSA record has three numbers, and something more");
        if (!certificates.empty()) same(certificates.front().data, data.substr(3), "which is its data");
    }
    // All together are no more than each.
    std::size_t n = 0;
    for (const auto& data : records.data) n += mail_exchangers({.data = {data}}).size();
    same(mail_exchangers(records).size(), n, "a malformed one takes no other with it");
}
