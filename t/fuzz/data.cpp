// data -- a text by DATA, and what follows it, in a session: memory, file, every limit and policy.
#include "session.hpp"

using namespace Net::SMTP;

void fuzz::run(Input input) {
    const auto how = input.octet();
    Talk talk{options(input.octet()), false};
    talk.options.complete = how & 1;
    const auto chance = input.chance();
    std::string says = talk.options.protocol == Protocol::lmtp ? "LHLO me\r\n"
                       : how & 4                               ? "EHLO me\r\n"
                                                               : "HELO me\r\n";
    says += "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n";
    if (how & 8) says += "RCPT TO:<e@f>\r\n";
    says += "DATA\r\n";
    says += input.rest();
    if (how & 16) says += "\r\n.\r\nNOOP\r\n";
    // Fields that are added have a date and an id in them.
    if (!talk.options.complete) return both_ways(says, talk, chance, how & 2);
    SecondReading(says, play(says, talk, {chance, (how & 2) != 0}), talk);
}
