// SessionLog -- one line for each session and one for each of its mails.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "Watch.hpp"

namespace Net::SMTP {

// As key=value, or as an object of JSON:
//
//     time=2026-01-31T12:34:56.789Z event=mail server=mx session=5T2WRC0M1Y3QA peer=192.0.2.1:4711 helo=a.example
//     tls=TLSv1.3 cipher=TLS_AES_256_GCM_SHA384 user="" id=5T2WRC0M1Y3QA-1 from=<joe@a.example> to=2 refused=0
//     size=1234 code=250 status=2.0.0 taken=1 answers=1 why=answered ms=31
//     time=... event=session ... user="" mails=1 refused=0 bytes=1234 commands=6 code=221 status=2.0.0 why=quit ms=97
//
// (each in one line). What is unknown is "", or 0. `to` are the recipients that were taken by RCPT, `refused` those
// that were not, or of a session mails; `taken` of `answers` to the text (by LMTP one for each recipient) were
// positive; `code` is what the sender heard, the worst of them, 0: nothing; `why` a mail ended is
// name(Watch::Mail::End) and why a session, Watch::Session::why(); `ms` is how long it took, a mail from MAIL to its
// answer. `bytes` are octets of messages. What clients say is cut at 322 octets; in key=value control characters and
// octets that are no UTF-8 become \x0A, and a value in quotes is one with blanks, quotes or = in it, or empty. See
// Watch for what is a mail, and when to listen.
class SessionLog {
public:
    enum class Format { key_value, json };
    // Gets a line without its end. Called by any session's thread, by several at once; what it throws is an
    // Event::Trouble.
    using Write = std::function<void(std::string_view line)>;
    explicit SessionLog(Write write, Format format = Format::key_value);

    // Listens to it, as long as it lives or until these are given to Pipeline::off(); this object may go before. Once
    // for each pipeline.
    std::vector<Pipeline::Listener> listen(Pipeline& pipeline) const { return watch_.listen(pipeline); }

private:
    Watch watch_;
};

}  // namespace Net::SMTP
