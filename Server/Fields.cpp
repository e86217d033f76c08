#include "Fields.hpp"

#include <unistd.h>

#include <algorithm>
#include <ctime>

#include "Header.hpp"

namespace Net::SMTP {

namespace {

// Whatever a hook made of a name, it stays one word of one line.
std::string word(std::string text) {
    std::ranges::replace_if(
        text, [](unsigned char c) { return c <= 32 || c == 127 || c == '(' || c == ')'; }, '?');
    return text;
}

}  // namespace

std::string received_field(const Message& message, const std::string& hostname, const std::string& id) {
    const auto& t = message.trace();
    std::string out = "Received: ";
    if (!t.helo.empty()) {
        const auto& ip = t.peer.host;
        const bool v6 = ip.find(':') != ip.npos;
        out += "from " + word(t.helo);
        out += ip.empty() || t.peer.local() ? " (local)" : " ([" + (v6 ? "IPv6:" + ip : ip) + "])";
        out += "\r\n\t";
    }
    out += "by " + word(t.hostname.empty() ? hostname : t.hostname);
    if (!t.protocol.empty()) out += " with " + t.protocol;
    const auto& number = id.empty() ? message.id() : id;
    if (!number.empty()) out += " id " + number;
    if (!t.cipher.empty()) out += "\r\n\ttls " + t.cipher;  // RFC 8314 4.3
    out += ";\r\n\t" + date_time(message.received_at() ? message.received_at() : std::time(nullptr)) + "\r\n";
    return out;
}

std::size_t hops(const Message& message) {
    const auto all = message.headers("Received").size();
    const bool ours = all > 0 && message.own_received() == OwnReceived::there;
    return ours ? all - 1 : all;
}

std::string return_path_field(const Sender& from) {
    auto path = from.str();
    std::ranges::replace_if(
        path, [](unsigned char c) { return c < 32 || c == 127; }, '?');
    return "Return-Path: <" + path + ">\r\n";
}

std::string system_name() {
    char name[256] = "";
    gethostname(name, sizeof name - 1);
    return name[0] ? name : "localhost";
}

}  // namespace Net::SMTP
