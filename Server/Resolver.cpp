#include "Resolver.hpp"

#include <arpa/inet.h>

#include <optional>

namespace Net::SMTP {

namespace {

// An uncompressed name, all of `rdata`, as text. A dot or a control character inside a label belongs to no host.
std::optional<std::string> domain(std::string_view rdata) {
    std::string out;
    while (!rdata.empty()) {
        const auto length = static_cast<unsigned char>(rdata.front());
        rdata.remove_prefix(1);
        if (length == 0) return rdata.empty() ? std::optional(out) : std::nullopt;
        if (!out.empty()) out += '.';
        if (length > 63 || length > rdata.size() || out.size() + length > 253) return std::nullopt;
        for (const unsigned char c : rdata.substr(0, length)) {
            if (c <= 32 || c >= 127 || c == '.') return std::nullopt;
            out += char(c);
        }
        rdata.remove_prefix(length);
    }
    return std::nullopt;
}

}  // namespace

std::string_view name(RecordType type) {
    switch (type) {
        case RecordType::A: return "A";
        case RecordType::CNAME: return "CNAME";
        case RecordType::MX: return "MX";
        case RecordType::TXT: return "TXT";
        case RecordType::AAAA: return "AAAA";
        case RecordType::TLSA: return "TLSA";
    }
    return "";
}

std::vector<MailExchanger> mail_exchangers(const Records& records) {
    std::vector<MailExchanger> out;
    for (const auto& data : records.data) {
        if (data.size() < 3) continue;
        const auto preference = static_cast<unsigned char>(data[0]) << 8 | static_cast<unsigned char>(data[1]);
        if (auto host = domain(std::string_view(data).substr(2)))
            out.push_back({static_cast<std::uint16_t>(preference), std::move(*host)});
    }
    return out;
}

std::vector<std::string> addresses(const Records& records) {
    std::vector<std::string> out;
    for (const auto& data : records.data) {
        if (data.size() != 4 && data.size() != 16) continue;
        char text[INET6_ADDRSTRLEN];
        if (inet_ntop(data.size() == 4 ? AF_INET : AF_INET6, data.data(), text, sizeof text)) out.emplace_back(text);
    }
    return out;
}

std::vector<std::string> texts(const Records& records) {
    std::vector<std::string> out;
    for (std::string_view data : records.data) {
        std::string text;
        bool whole = !data.empty();
        while (whole && !data.empty()) {
            const auto length = static_cast<unsigned char>(data.front());
            data.remove_prefix(1);
            whole = length <= data.size();
            if (!whole) break;
            text.append(data.substr(0, length));
            data.remove_prefix(length);
        }
        if (whole) out.push_back(std::move(text));
    }
    return out;
}

std::vector<TLSA> tlsa(const Records& records) {
    std::vector<TLSA> out;
    for (const auto& data : records.data) {
        if (data.size() < 4) continue;
        const auto field = [&](std::size_t i) { return static_cast<std::uint8_t>(data[i]); };
        out.push_back({field(0), field(1), field(2), data.substr(3)});
    }
    return out;
}

}  // namespace Net::SMTP
