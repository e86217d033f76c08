#include "Options.hpp"

#include <algorithm>
#include <stdexcept>

namespace Net::SMTP {

void Options::check() const {
    auto bad = [](const std::string& what) { throw std::invalid_argument("Options: " + what); };
    auto clean = [](const std::string& text) {
        return std::all_of(text.begin(), text.end(), [](unsigned char c) { return c >= 32 && c != 127; });
    };
    if (hostname.size() > 255 || !clean(hostname) || hostname.find(' ') != hostname.npos) bad("hostname: " + hostname);
    if (!clean(greeting) || greeting.size() > 200) bad("greeting holds a control character or is over 200 octets");
    if (max_command_line > 1 << 20) bad("max_command_line is over 1 MiB");
    if (spool_dir.empty()) bad("spool_dir is empty");
    if (offer.binary_mime && !offer.chunking) bad("offer.binary_mime needs offer.chunking (RFC 3030)");
    for (auto t : {command_timeout, block_timeout, data_timeout})
        if (t <= seconds(0)) bad("a timeout is not positive");
    for (auto t : {session_timeout, data_grace})
        if (t < seconds(0)) bad("a timeout is negative");
}

}  // namespace Net::SMTP
