// envelope -- everything parsed of one mail, as a JSON object.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <Net/SMTP/Server.hpp>

// A JSON string. Octets that are no UTF-8 become lone surrogates, \udc80 to \udcff, so that nothing is lost.
inline std::string quoted(std::string_view text) {
    std::string out = "\"";
    auto escape = [&](unsigned code) {
        char hex[8];
        std::snprintf(hex, sizeof hex, "\\u%04x", code);
        out += hex;
    };
    for (std::size_t i = 0; i < text.size();) {
        const auto c = static_cast<unsigned char>(text[i]);
        if (c == '"' || c == '\\') {
            out += '\\';
            out += text[i++];
        } else if (c == '\n' || c == '\r' || c == '\t') {
            out += c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
            ++i;
        } else if (c < 32 || c == 127) {
            escape(c);
            ++i;
        } else if (c < 128) {
            out += text[i++];
        } else {
            std::size_t length = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : 2;
            const auto character = text.substr(i, length);
            if (character.size() == length && Net::SMTP::valid_utf8(character)) {
                out += character;
            } else {
                length = 1;
                escape(0xDC00 + c);
            }
            i += length;
        }
    }
    return out + '"';
}

// {"a":1,"b":"x"}, written member by member.
class Object {
public:
    Object& add(std::string_view name, const std::string& json) {
        text_ += (text_.size() > 1 ? "," : "") + ::quoted(name) + ':' + json;
        return *this;
    }
    Object& text(std::string_view name, std::string_view value) { return add(name, ::quoted(value)); }
    Object& number(std::string_view name, std::uint64_t value) { return add(name, std::to_string(value)); }
    Object& flag(std::string_view name, bool value) { return add(name, value ? "true" : "false"); }
    std::string str() const { return text_ + '}'; }

private:
    std::string text_ = "{";
};

template <class Range, class Json>
std::string array(const Range& range, Json json) {
    std::string out = "[";
    for (const auto& item : range) out += (out.size() > 1 ? "," : "") + json(item);
    return out + ']';
}

inline std::string raw_parameters(const std::vector<Net::SMTP::Parameter>& parameters) {
    return array(parameters,
                 [](const auto& p) { return ::quoted(p.has_value ? p.keyword + '=' + p.value : p.keyword); });
}

// README lists the members. `extra` are appended.
inline std::string envelope(const Net::SMTP::Server::Client& client, const Object& extra = {}) {
    using namespace Net::SMTP;
    const auto& from = client.FROM;
    const auto& message = client.MSG;

    Object parameters;
    if (from.size) parameters.number("size", *from.size);
    parameters.text("body", from.body == BodyType::binary_mime      ? "BINARYMIME"
                            : from.body == BodyType::eight_bit_mime ? "8BITMIME"
                                                                    : "7BIT");
    parameters.flag("smtputf8", from.smtputf8);
    if (from.ret != Return::unsaid) parameters.text("ret", from.ret == Return::full ? "FULL" : "HDRS");
    if (from.envid) parameters.text("envid", *from.envid);
    if (from.auth) parameters.text("auth", *from.auth);
    parameters.add("raw", raw_parameters(from.parameters));

    const auto recipient = [](const Recipient& r) {
        Object o;
        o.text("address", r.str()).text("local", r.local).text("domain", r.domain).text("path", r.raw);
        if (r.notify.said()) o.text("notify", r.notify.str());
        if (r.orcpt) o.add("orcpt", Object().text("type", r.orcpt->type).text("address", r.orcpt->address).str());
        return o.add("raw", raw_parameters(r.parameters)).str();
    };
    Object all;
    all.text("id", message.id())
        .text("from", from.str())
        .add("to", array(client.TO, [](const Recipient& r) { return ::quoted(r.str()); }))
        .text("helo", client.helo())
        .text("peer", client.peer().str())
        .text("local", client.local().str())
        .text("protocol", message.trace().protocol)
        .text("cipher", message.trace().cipher)
        .text("user", message.trace().user)
        .text("path", from.raw)
        .add("parameters", parameters.str())
        .add("recipients", array(client.TO, recipient))
        .number("size", message.size())
        .number("received_at", static_cast<std::uint64_t>(message.received_at()));
    if (client.tls() && client.tls()->peer) {
        const auto& certificate = *client.tls()->peer;
        all.add("certificate", Object()
                                   .text("subject", certificate.subject)
                                   .text("fingerprint", certificate.fingerprint)
                                   .flag("verified", certificate.verified)
                                   .text("problem", certificate.problem)
                                   .str());
    }
    const auto more = extra.str();
    const auto text = all.str();
    return more == "{}" ? text : text.substr(0, text.size() - 1) + ',' + more.substr(1);
}
