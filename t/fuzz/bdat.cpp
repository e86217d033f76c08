// bdat -- a text in chunks (RFC 3030), of right and wrong sizes, with other commands between them.
#include "session.hpp"

using namespace Net::SMTP;

void fuzz::run(Input input) {
    const auto how = input.octet();
    const Talk talk{options(input.octet()), (how & 1) != 0};
    const auto chance = input.chance();
    std::string says = talk.options.protocol == Protocol::lmtp ? "LHLO me\r\n" : "EHLO me\r\n";
    says += how & 4 ? "MAIL FROM:<a@b> BODY=BINARYMIME\r\n" : "MAIL FROM:<a@b>\r\n";
    says += "RCPT TO:<c@d>\r\n";
    if (how & 8) says += "RCPT TO:<e@f>\r\n";
    // What stands between two octets 255 is a chunk, between two 254 the last one; all else is said as it is.
    for (auto rest = input.rest(); !rest.empty();) {
        const auto mark = static_cast<unsigned char>(rest.front());
        const auto end = std::min(rest.find(rest.front(), 1), rest.size());
        if (mark < 254) {
            const auto until = std::min(rest.find_first_of("\xFE\xFF"), rest.size());
            says += rest.substr(0, until);
            rest.remove_prefix(until);
            continue;
        }
        const auto chunk = rest.substr(1, end - 1);
        says += "BDAT " + std::to_string(chunk.size()) + (mark == 254 ? " LAST\r\n" : "\r\n");
        says += chunk;
        rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    both_ways(says, talk, chance, how & 2);
}
