// What each command of a session does: a function from argument to Reply.
#include <algorithm>
#include <charconv>
#include <set>
#include <utility>

#include "Body.hpp"
#include "Client.hpp"
#include "Content.hpp"
#include "Event.hpp"
#include "Shared.hpp"

namespace Net::SMTP {

namespace {

const Reply no_arguments{501, "5.5.4", "No arguments allowed"};
const Reply mail_first{503, "5.5.1", "MAIL first"};
const Reply rcpt_first{503, "5.5.1", "RCPT first"};
const Reply is_chunked{503, "5.5.1", "BDAT has begun; only BDAT or RSET may follow"};
const Reply unrecognized{500, "5.5.1", "Command unrecognized"};
const Reply not_implemented{502, "5.5.1", "Command not implemented"};
const Reply tls_first{530, "5.7.0", "Must issue a STARTTLS command first"};
const Reply auth_first{530, "5.7.0", "Authentication required"};

bool printable(std::string_view text) {
    return std::ranges::all_of(text, [](unsigned char c) { return c > 32 && c < 127; });
}

// RFC 3207 4: what may be said before TLS where it is required. BDAT refuses by itself, since octets follow it.
bool needs_tls(Verb verb) {
    using enum Verb;
    return verb != NOOP && verb != EHLO && verb != LHLO && verb != STARTTLS && verb != QUIT && verb != BDAT;
}

// RFC 6409 4.2. Neither <> nor <postmaster> names a domain, and a literal is one of its own kind.
bool qualified(const Address& address) {
    const auto& domain = address.domain;
    return domain.empty() || domain.front() == '[' || domain.find('.') != domain.npos;
}

bool control(char c) { return static_cast<unsigned char>(c) < 32 || c == 127; }

// "POST / HTTP/1.1"
bool http_request(std::string_view line) {
    constexpr std::string_view protocol = "HTTP/";
    const auto last = line.substr(line.rfind(' ') + 1);
    return last.size() < line.size() && same_text(last.substr(0, protocol.size()), protocol);
}

}  // namespace

// A row for each verb, in the enum's order; no function: 502.
Server::Client::Function Server::Client::function(Verb verb) {
    static constexpr Function functions[] = {
        &Client::helo, &Client::ehlo, &Client::lhlo, &Client::mail,     &Client::rcpt,
        &Client::data, &Client::bdat, &Client::rset, &Client::noop,     &Client::vrfy,
        &Client::expn, &Client::help, &Client::quit, &Client::starttls, &Client::auth,
    };
    const auto row = static_cast<std::size_t>(verb);
    return row < std::size(functions) ? functions[row] : nullptr;
}

Server::Client::Answer Server::Client::command(std::string_view line) {
    const auto ours = [this](std::string_view said) -> Answer {
        const bool own = shared_->options.simple || Command::parse(said).verb == Verb::QUIT;
        return own ? execute(said) : not_implemented;
    };
    if (!heard<Event::Command>()) return ours(line);
    std::string said(line);
    Reply reply{0, "", ""};
    Event::Command event(*this, said, reply);
    may_answer_ = true;
    show(event);
    may_answer_ = false;
    const bool chunk = Command::parse(line).verb == Verb::BDAT;
    if (chunk && (reply.code != 0 || !shared_->options.simple || Command::parse(said).verb != Verb::BDAT))
        return vetoed(line, reply);
    if (reply.code != 0) return answered(said, reply);
    own_sink_.reset();
    return ours(said);
}

// BDAT that somebody else has answered, or made another command of: its octets come all the same, and are no commands.
Server::Client::Answer Server::Client::vetoed(std::string_view line, const Reply& reply) {
    own_sink_.reset();
    if (reply.code >= 400) veto_ = reply;
    else if (reply.code == 0 || !shared_->options.simple) veto_ = not_implemented;
    auto answer = execute(line);
    veto_.reset();
    return answer;
}

// The program's own answer.
Server::Client::Answer Server::Client::answered(std::string_view line, Reply reply) {
    if (reply.code < 400 && untimely(Command::parse(line).verb)) reply = tls_first;
    if (reply.code >= 400) own_sink_.reset();
    if (reply.code == 354 && !own_sink_) {  // the text would be run as commands
        trouble("354, but no data_mode()");
        return Reply{451, "4.3.0", "Local error in processing"};
    }
    if (reply.code == 221) return goodbye(reply, false), std::nullopt;
    return reply;
}

Server::Client::Answer Server::Client::execute(std::string_view line) {
    if (line.empty()) return Reply{500, "5.5.2", "Empty command"};
    const auto command = Command::parse(line);
    if (std::ranges::any_of(line, [](char c) { return control(c) && c != '\t'; }))
        return unread(line, {500, "5.5.2", "Control character in a command (lines end in CRLF)"});
    if (untimely(command.verb)) return tls_first;
    if (command.verb == Verb::unknown && http_request(line)) {
        // A browser, or whatever fetches pages for strangers: in the body that follows may be commands of theirs.
        return goodbye({421, "4.7.0", shared_->options.hostname + " This is no HTTP server"}), std::nullopt;
    }
    if (command.verb == Verb::unknown) return unrecognized;
    const auto f = function(command.verb);
    if (!f) return not_implemented;
    return (this->*f)(command.argument);
}

Server::Client::Answer Server::Client::unread(std::string_view line, const Reply& why) {
    if (Command::parse(line).verb != Verb::BDAT) return why;
    return goodbye(why), std::nullopt;
}

bool Server::Client::untimely(Verb verb) const { return shared_->options.require_tls && !tls() && needs_tls(verb); }

// ---- who is there ----

Reply Server::Client::hello(std::string_view argument, Verb verb) {
    const bool esmtp = verb != Verb::HELO;
    // RFC 5321 4.1.4: a name that is odd is no reason to refuse; one that could not be written into a header is.
    if (argument.empty() || argument.size() > 255 || !printable(argument))
        return {501, "5.5.4", "Syntax: " + std::string(SMTP::name(verb)) + " hostname"};
    const auto& o = shared_->options;
    std::string name(argument);
    Extensions offer = esmtp ? o.offer : Extensions{false, false, false, false, false, false, false, false, false};
    Reply reply{250, "", ""};
    reply.text.reserve(o.hostname.size() + 128);
    reply.text = o.hostname;
    Event::Helo event(*this, name, offer, reply);
    show(event);
    if (!reply.positive()) return reply;
    if (lmtp_) offer.pipelining = offer.enhanced_status_codes = true;  // RFC 2033 5

    reset();
    helo_ = std::move(name);
    esmtp_ = esmtp;
    offer_ = offer;
    statuses_ = esmtp ? offer.enhanced_status_codes : o.offer.enhanced_status_codes;
    phase_ = Phase::ready;
    trace_.reset();
    if (!esmtp) return reply;
    const auto mechanisms = auth_offer();
    offer_.auth = !mechanisms.empty() || !user_.empty();  // who has authenticated may still say MAIL's AUTH=
    auto add = [&](bool offered, std::string_view keyword) {
        if (offered) (reply.text += '\n') += keyword;
    };
    add(offer.pipelining, "PIPELINING");
    add(offer.size, o.max_message_size > 0 ? "SIZE " + std::to_string(o.max_message_size) : "SIZE");
    add(offer.eight_bit_mime, "8BITMIME");
    add(offer.smtputf8, "SMTPUTF8");
    add(offer.chunking, "CHUNKING");
    add(offer.chunking && offer.binary_mime, "BINARYMIME");
    add(offer.enhanced_status_codes, "ENHANCEDSTATUSCODES");
    add(offer.dsn, "DSN");
    add(o.tls && connection_.can_encrypt(), "STARTTLS");
    if (!mechanisms.empty()) {
        reply.text += "\nAUTH";
        for (const auto& mechanism : mechanisms) reply.text += ' ' + mechanism;
    }
    for (const auto& keyword : o.own.keywords) add(true, keyword);
    add(true, "HELP");
    return reply;
}

Server::Client::Answer Server::Client::helo(std::string_view argument) {
    if (lmtp_) return unrecognized;
    return hello(argument, Verb::HELO);
}
Server::Client::Answer Server::Client::ehlo(std::string_view argument) {
    if (lmtp_) return unrecognized;
    return hello(argument, Verb::EHLO);
}

// RFC 2033 4.1
Server::Client::Answer Server::Client::lhlo(std::string_view argument) {
    if (!lmtp_) return unrecognized;
    return hello(argument, Verb::LHLO);
}

// RFC 3207
Server::Client::Answer Server::Client::starttls(std::string_view argument) {
    if (!shared_->options.tls) return not_implemented;
    if (tls()) return Reply{503, "5.5.1", "TLS is active already"};
    if (!argument.empty()) return no_arguments;
    if (phase_ == Phase::mail || phase_ == Phase::chunks) return Reply{503, "5.5.1", "Not within a transaction"};
    if (!connection_.can_encrypt()) return Reply{454, "4.7.0", "TLS not available due to temporary reason"};
    if (!connection_.buffered().empty()) {
        // It was sent in the clear, by whomever (CVE-2011-0411): it must count neither now nor after the handshake.
        return goodbye({554, "5.5.1", "Nothing may follow STARTTLS before the handshake"}), std::nullopt;
    }
    starting_tls_ = true;
    say({220, "2.0.0", "Ready to start TLS"});
    starting_tls_ = false;
    if (!encrypt()) return std::nullopt;
    // RFC 3207 4.2: whatever was said before is forgotten.
    reset();
    helo_.clear();
    user_.clear();
    mechanism_.clear();
    esmtp_ = false;
    offer_ = shared_->options.offer;
    statuses_ = lmtp_ || offer_.enhanced_status_codes;
    phase_ = Phase::start;
    trace_.reset();
    return std::nullopt;
}

bool Server::Client::encrypt() {
    std::string problem;
    bool encrypted = false;
    try {
        auto layer = shared_->options.tls->accept(connection_.fd());
        encrypted = connection_.encrypt(std::move(layer), deadline(shared_->options.handshake_timeout), problem);
    } catch (const std::exception& e) {
        problem = e.what();
    }
    Reply reply{220, "", "TLS is active"};
    Event::TLS event(*this, problem, reply);
    show(event);
    if (encrypted && reply.positive()) return true;
    if (encrypted) return goodbye(reply), false;
    ended_ = true;
    connection_.close();
    return false;
}

// ---- the envelope ----

Server::Client::Answer Server::Client::mail(std::string_view argument) {
    const auto& o = shared_->options;
    if (phase_ == Phase::start) return Reply{503, "5.5.1", lmtp_ ? "LHLO first" : "HELO or EHLO first"};
    if (phase_ != Phase::ready) return Reply{503, "5.5.1", "Sender already given"};
    if (o.require_auth && user_.empty()) return auth_first;
    Reply reply{250, "2.1.0", "Sender OK"};
    auto sender = parse_mail(argument, offer_, o.lenient, reply, o.own.mail_parameters);
    if (!sender) return reply;
    if (o.qualified && !qualified(*sender)) return Reply{554, "5.1.8", "Sender's domain is not fully qualified"};
    if (o.max_message_size > 0 && sender->size && *sender->size > o.max_message_size)
        return Reply{552, "5.3.4", "Message is too large; the limit is " + std::to_string(o.max_message_size)};

    believe(*sender);

    reset();
    if (!content_) content_ = std::make_shared<Content>(shared_->memory);
    phase_ = Phase::mail;
    Event::Mail event(*this, *sender, reply);
    show(event);
    if (reply.positive()) FROM = std::move(*sender);
    else reset();
    return reply;
}

Server::Client::Answer Server::Client::rcpt(std::string_view argument) {
    const auto& o = shared_->options;
    if (phase_ == Phase::chunks) return is_chunked;
    if (phase_ != Phase::mail) return mail_first;
    Reply reply{250, "2.1.5", "Recipient OK"};
    auto recipient = parse_rcpt(argument, offer_, FROM.smtputf8, o.lenient, reply, o.own.rcpt_parameters);
    if (!recipient) return reply;
    if (o.qualified && !qualified(*recipient)) return Reply{554, "5.1.2", "Recipient's domain is not fully qualified"};
    if (o.max_recipients > 0 && recipients() >= o.max_recipients) return Reply{452, "4.5.3", "Too many recipients"};

    recipient->id = ++recipients_;
    Event::Rcpt event(*this, *recipient, reply);
    show(event);
    if (!reply.positive()) return reply;
    recipient->id = recipients_;  // a listener may have put another in its place
    if (lmtp_) named_.push_back(recipients_);
    TO.push_back(std::move(*recipient));
    return reply;
}

Server::Client::Answer Server::Client::rset(std::string_view argument) {
    if (!argument.empty()) return no_arguments;
    reset();
    return Reply{250, "2.0.0", "Reset"};
}

// ---- the message ----

// Whether a body may come now; a refusal otherwise.
Reply Server::Client::may_begin_body() {
    if (phase_ != Phase::mail) return mail_first;
    if (recipients() == 0) return rcpt_first;
    return {};
}

// Makes ready to receive; `body_` then holds a refusal if it can't be.
bool Server::Client::start_body() {
    Reply reply{354, "", "End data with <CR><LF>.<CR><LF>"};
    Event::Data event(*this, reply);
    show(event);
    content_->id.assign(id_).append("-").append(std::to_string(++mails_));
    body_ = std::make_unique<Body>(connection_, shared_->options, content_,
                                   std::move(sink_of_mail_ ? sink_of_mail_ : sink_), session_end());
    if (!reply.positive()) body_->refuse(reply);
    else if (!body_->ready()) body_->refuse({452, "4.3.1", "Insufficient system storage"});
    return !body_->refusal();
}

Server::Client::Answer Server::Client::data(std::string_view argument) {
    if (!argument.empty()) return no_arguments;
    if (phase_ == Phase::chunks) return is_chunked;
    if (auto refusal = may_begin_body(); !refusal.positive()) return refusal;
    if (FROM.body == BodyType::binary_mime) return Reply{503, "5.5.1", "BINARYMIME needs BDAT"};
    if (!start_body()) {
        const auto refusal = *body_->refusal();
        body_.reset();
        return refusal;  // no 354: the text does not come
    }
    say({354, "", "End data with <CR><LF>.<CR><LF>"});
    const auto ending = body_->text();
    if (ending != Body::Ending::read) return body_failed(ending, true);
    return end_body();
}

Server::Client::Answer Server::Client::bdat(std::string_view argument) {
    const auto& o = shared_->options;
    const Reply syntax{501, "5.5.4", "Syntax: BDAT size [LAST]"};
    const Reply too_large{552, "5.3.4", "Message is too large"};
    if (argument.empty()) return syntax;  // so no octets follow

    const auto blank = std::min(argument.find(' '), argument.size());
    const auto word = argument.substr(std::min(blank + 1, argument.size()));
    const bool last = same_text(word, "LAST");
    std::uint64_t size = 0;
    const char* const end = argument.data() + blank;
    const auto parsed = std::from_chars(argument.data(), end, size);
    if (parsed.ptr != end || parsed.ec == std::errc::invalid_argument || (blank < argument.size() && !last)) {
        // How many octets follow is not sure, so nothing behind them can be found.
        return goodbye(syntax), std::nullopt;
    }
    if (parsed.ec == std::errc::result_out_of_range ||
        (o.max_message_size > 0 && size > o.max_message_size && size > o.drain)) {
        return goodbye(last ? say_each(too_large) : too_large), std::nullopt;  // more than we would read away
    }

    // RFC 3030 2: whatever we think of it, the octets are not commands.
    if (phase_ != Phase::chunks) {
        const auto refusal = veto_ ? *veto_ : !offer_.chunking ? not_implemented : may_begin_body();
        if (!refusal.positive()) return waste(size, refusal);
        start_body();
        phase_ = Phase::chunks;
    }
    if (veto_) body_->refuse(*veto_);
    const auto ending = body_->chunk(size, FROM.body == BodyType::binary_mime);
    if (ending != Body::Ending::read) return body_failed(ending, last);
    if (body_->refusal()) {
        const auto answer = last ? say_each(*body_->refusal()) : *body_->refusal();
        hang_up_ |= body_->hangs_up();
        if (last) reset();
        return answer;
    }
    if (last) return end_body();
    return Reply{250, "2.0.0", std::to_string(size) + " octets received"};
}

// Reads away a chunk that belongs to no message.
Server::Client::Answer Server::Client::waste(std::uint64_t size, const Reply& refusal) {
    Body body(connection_, shared_->options, std::make_shared<Content>(shared_->memory), nullptr, session_end());
    body.refuse(refusal);
    const auto ending = body.chunk(size, true);
    return ending == Body::Ending::read ? Answer(refusal) : body_failed(ending, false);
}

// The octets are all here: the message is the program's now, or refused.
Server::Client::Answer Server::Client::end_body() {
    const bool taken = body_->complete();
    if (!body_->trouble().empty()) trouble(body_->trouble());
    if (!taken) {
        const auto refusal = say_each(*body_->refusal());
        hang_up_ |= body_->hangs_up();
        reset();
        return refusal;
    }
    body_.reset();
    phase_ = Phase::ready;
    if (!trace_ || trace_->protocol.starts_with("UTF8") != FROM.smtputf8) {
        // RFC 3848, RFC 6531 4.3
        std::string protocol = lmtp_           ? (FROM.smtputf8 ? "UTF8LMTP" : "LMTP")
                               : FROM.smtputf8 ? "UTF8SMTP"
                               : esmtp_        ? "ESMTP"
                                               : "SMTP";
        if (esmtp_ && tls()) protocol += 'S';
        if (esmtp_ && !user_.empty()) protocol += 'A';
        trace_ = std::make_shared<const Trace>(Trace{shared_->options.hostname, helo_, protocol, connection_.peer(),
                                                     connection_.local(), tls() ? tls()->cipher : "", user_});
    }
    content_->shared = shared_;
    content_->trace = trace_;
    content_->received_at = std::time(nullptr);
    content_->sender_present = [this] { return !connection_.peer_gone(); };
    content_->each = lmtp_;
    if (!lmtp_) tell_apart();
    if (lmtp_) content_->custody.open(named_);
    else content_->custody.open(TO);
    MSG = Message(content_);
    awaiting_ = true;
    complete_ = arrived();
    return std::nullopt;
}

// Listeners may have added recipients to TO, made anew or copied; each needs a taker of its own.
void Server::Client::tell_apart() {
    std::uint64_t last = 0;
    const bool fine = std::ranges::all_of(TO, [&](const Recipient& r) { return std::exchange(last, r.id) < r.id; });
    if (fine) return;
    std::set<std::uint64_t> seen{0};
    for (auto& r : TO)
        if (!seen.insert(r.id).second) seen.insert(r.id = ++recipients_);
}

bool Server::Client::arrived() {
    if (!heard<Event::Arrived>()) return true;
    Reply reply{250, "2.0.0", "OK"};
    Event::Arrived event(*this, reply);
    show(event);
    if (!awaiting_) {  // answered already
        reset();
        return false;
    }
    if (!reply.positive()) {
        content_->custody.reconsider();
        give(reply);
    } else if (content_->custody.forgotten() > 0) {
        return true;
    }
    conclude();
    reset();
    return false;
}

Server::Client::Answer Server::Client::body_failed(BodyEnding ending, bool last) {
    const auto& o = shared_->options;
    auto refusal = body_ ? body_->refusal() : std::nullopt;
    // The text does not end, but what would be said at its end may still be believed.
    if (ending == Body::Ending::flood && refusal && last) refusal = say_each(*refusal);
    reset();
    if (ending == Body::Ending::slow) {
        goodbye({421, "4.4.2", o.hostname + " Timeout while receiving the message"});
    } else if (ending == Body::Ending::flood) {
        goodbye(refusal.value_or(Reply{421, "4.7.0", o.hostname + " Closing connection"}));
    } else {
        ended_ = true;
        connection_.close();
    }
    return std::nullopt;
}

Server::Client::Answer Server::Client::own_text() {
    const auto sink = *std::exchange(own_sink_, std::nullopt);
    if (!content_) content_ = std::make_shared<Content>(shared_->memory);
    content_->id.assign(id_).append("-").append(std::to_string(++mails_));
    body_ = std::make_unique<Body>(connection_, shared_->options, content_, sink, session_end());
    if (!body_->ready()) body_->refuse({452, "4.3.1", "Insufficient system storage"});
    const auto ending = body_->text();
    const bool read = ending == Body::Ending::read;
    const bool whole = read && body_->complete();
    if (!read) body_->abandon();
    if (!body_->trouble().empty()) trouble(body_->trouble());
    Reply reply{250, "2.0.0", "OK"};
    if (!whole) reply = read ? *body_->refusal() : Reply{451, "4.4.2", "The text has not come to its end"};
    content_->received_at = std::time(nullptr);
    if (whole) MSG = Message(content_);
    Event::Text event(*this, reply);
    show(event);
    if (!read) return body_failed(ending, true);
    hang_up_ |= body_->hangs_up();
    const auto answer = say_each(reply);
    reset();
    return answer;
}

// ---- the rest ----

Server::Client::Answer Server::Client::noop(std::string_view) { return Reply{250, "2.0.0", "OK"}; }

Server::Client::Answer Server::Client::vrfy(std::string_view argument) {
    if (argument.empty()) return Reply{501, "5.5.4", "Syntax: VRFY address"};
    return Reply{252, "2.5.0", "Cannot VRFY user, but will accept message and attempt delivery"};
}

Server::Client::Answer Server::Client::expn(std::string_view) { return not_implemented; }

Server::Client::Answer Server::Client::help(std::string_view) {
    const auto served = [&](Verb verb) {
        if (verb == Verb::HELO || verb == Verb::EHLO) return !lmtp_;
        if (verb == Verb::LHLO) return lmtp_;
        if (verb == Verb::STARTTLS) return shared_->options.tls && connection_.can_encrypt();
        if (verb == Verb::AUTH) return offer_.auth;
        return verb != Verb::EXPN && (verb != Verb::BDAT || offer_.chunking);
    };
    std::string text = "Commands:";
    for (int v = 0; v < int(Verb::SEND); ++v)
        if (served(Verb(v))) text += ' ' + std::string(name(Verb(v)));
    for (const auto& verb : shared_->options.own.verbs) text += ' ' + verb;
    return Reply{214, "2.0.0", text};
}

Server::Client::Answer Server::Client::quit(std::string_view argument) {
    if (!argument.empty()) return no_arguments;
    reset();
    goodbye({221, "2.0.0", shared_->options.hostname + " closing connection"}, false);
    return std::nullopt;
}

}  // namespace Net::SMTP
