// EventCourse -- the events of a session, shown one after another as Server::Client shows them, and nothing else done.
#pragma once

#include <sys/socket.h>

#include <Net/SMTP/Server.hpp>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

// For one thread. What a session makes for an event alone, a copy of a reply or line, is made here too, and as there
// only if somebody hears it.
class EventCourse {
    using Event = Net::SMTP::Event;
    using Reply = Net::SMTP::Reply;

public:
    EventCourse() : client_(descriptor()) {
        sender_.local = "sender";
        sender_.domain = "example.com";
        recipient_.local = "recipient";
        recipient_.domain = "example.org";
    }

    Net::SMTP::Pipeline& pipeline() { return pipeline_; }
    // So far, heard or not.
    std::uint64_t events() const { return events_; }

    void session(unsigned mails) {
        Reply greeting{220, "", "localhost ESMTP"}, hello{250, "", "localhost\nPIPELINING\nSIZE\n8BITMIME\nHELP"};
        show(Event::Connect(client_, greeting));
        response(greeting);
        command("EHLO load.example.com");
        show(Event::Helo(client_, helo_, offer_, hello));
        response(hello);
        for (unsigned i = 0; i < mails; ++i) mail();
        command("QUIT");
        const Reply bye{221, "2.0.0", "localhost closing connection"};
        response(bye);
        show(Event::Disconnect(client_, bye));
    }

private:
    static int descriptor() {
        int ends[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) throw std::runtime_error("no socketpair");
        close(ends[1]);
        return ends[0];
    }

    template <class Kind>
    bool heard() {
        return pipeline_.heard(Net::SMTP::kind_of<Kind>(), view_);
    }
    template <class Kind>
    void show(Kind&& event) {
        ++events_;
        pipeline_.show(Net::SMTP::kind_of<Kind>(), event, view_);
    }

    void command(const char* line) {
        if (!heard<Event::Command>()) return void(++events_);
        std::string said(line);
        Reply reply{0, "", ""};
        show(Event::Command(client_, said, reply));
    }
    void response(const Reply& said) {
        if (!heard<Event::Response>()) return void(++events_);
        Reply reply = said;
        bool swallow = false;
        show(Event::Response(client_, reply, swallow));
    }

    void mail() {
        command("MAIL FROM:<sender@example.com>");
        show(Event::Mail(client_, sender_, sender_ok_));
        response(sender_ok_);
        command("RCPT TO:<recipient@example.org>");
        show(Event::Rcpt(client_, recipient_, recipient_ok_));
        response(recipient_ok_);
        command("DATA");
        show(Event::Data(client_, go_ahead_));
        response(go_ahead_);
        arrived();
        answered();
        response(ok_);
    }
    void arrived() {
        if (!heard<Event::Arrived>()) return void(++events_);
        Reply reply{250, "2.0.0", "OK"};
        show(Event::Arrived(client_, reply));
    }
    void answered() {
        if (!heard<Event::Answered>()) return void(++events_);
        const Net::SMTP::Message message(client_.MSG);
        const std::vector<Reply> verdicts{ok_};
        show(Event::Answered(client_, message, verdicts));
    }

    Net::SMTP::Pipeline pipeline_;
    Net::SMTP::Pipeline::View view_;
    Net::SMTP::Server::Client client_;
    std::uint64_t events_ = 0;

    std::string helo_ = "load.example.com";
    Net::SMTP::Extensions offer_{};
    Net::SMTP::Sender sender_{};
    Net::SMTP::Recipient recipient_{};
    Reply sender_ok_{250, "2.1.0", "Sender OK"}, recipient_ok_{250, "2.1.5", "Recipient OK"};
    Reply go_ahead_{354, "", "End data with <CR><LF>.<CR><LF>"}, ok_{250, "2.0.0", "OK"};
};
