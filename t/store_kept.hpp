// store_kept -- promises of stores: what is put there is kept as it was, all of it or nothing.
#pragma once

#include "store_place.hpp"

namespace test::stores {

inline std::vector<Sender> odd_senders() {
    std::vector<Sender> out;
    for (const char* mailbox :
         {"", "a@b", "Anna.O'Neil@Example.NET", "\"a b\\\"@\"@example.net", "x@[192.0.2.1]", "x@[IPv6:2001:DB8::1]",
          "j\xc3\xb6rg@b\xc3\xbc"
          "cher.example",
          "100%_@example.net"})
        out.emplace_back(mailbox);
    Sender sender("a@example.net");
    const auto add = [&] { out.push_back(std::exchange(sender, Sender("a@example.net"))); };
    for (auto body : {BodyType::seven_bit, BodyType::eight_bit_mime, BodyType::binary_mime}) sender.body = body, add();
    for (auto ret : {Return::unsaid, Return::full, Return::headers}) sender.ret = ret, add();
    sender.smtputf8 = true, add();
    using namespace std::string_literals;
    for (const auto& text : {""s, "QQ314159"s, "a\0b"s, "\0"s, "\xff\xfe+=%"s, std::string(100, 'x')}) {
        sender.envid = text, add();
        sender.auth = text, add();
    }
    // No grammar knows it, yet a program may have it.
    sender.local = "\xff\x80", sender.smtputf8 = true, add();
    return out;
}

inline std::vector<Recipient> odd_recipients() {
    std::vector<Recipient> out;
    for (const char* mailbox : {"postmaster", "a@b", "A@B", "Bert.O'Neil@Example.ORG", "\"a b\\\"@\"@example.org",
                                "x@[192.0.2.1]", "x@[IPv6:2001:DB8::1]",
                                "j\xc3\xb6rg@b\xc3\xbc"
                                "cher.example",
                                "a@b", "100%_@example.org", "postmaster@example.org"})
        out.emplace_back(mailbox);
    for (int bits = 0; bits < 16; ++bits) {
        out.emplace_back("n" + std::to_string(bits) + "@example.org");
        out.back().notify = {(bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0, (bits & 8) != 0};
    }
    using namespace std::string_literals;
    for (const auto& address : {"bert@example.org"s, ""s, "a\0b\xff"s, "+2B= ;'\""s}) {
        out.emplace_back("orcpt@example.org");
        out.back().orcpt = OriginalRecipient{"rfc822", address};
    }
    out.emplace_back("orcpt@example.org");
    out.back().orcpt = OriginalRecipient{"UTF-8", "j\xc3\xb6rg@example.org"};
    out.emplace_back("x@example.org");
    out.back().local = "\xff\x80";
    return out;
}

// Of one message, from everywhere.
inline std::vector<QueueTask::To> claim_everywhere(Store& store) {
    std::vector<QueueTask::To> out;
    for (const auto& domain : store.domains(std::nullopt, 10'000))
        for (const auto& task : claim(store, domain.name)) out.insert(out.end(), task.to.begin(), task.to.end());
    std::ranges::sort(out, {}, &QueueTask::To::number);
    return out;
}

inline const std::vector<Promise> kept_promises{
    {"a sender is kept in all that matters",
     [](StorePlace& place) {
         const auto store = leading(place);
         const auto senders = odd_senders();
         for (std::size_t i = 0; i < senders.size(); ++i) {
             auto mail = letter("s" + std::to_string(i));
             mail.from = senders[i];
             store->put(mail);
         }
         const auto items = store->items(0, 1000);
         MUST(items.size() == senders.size());
         for (std::size_t i = 0; i < senders.size(); ++i) MUST(same(items[i].from, senders[i]));
         const auto tasks = claim(*store);
         MUST(tasks.size() == senders.size());
         for (const auto& task : tasks) {
             const auto& sender = senders.at(std::stoul(task.id.substr(1)));
             MUST(same(task.from, sender));
             MUST(task.from.null() == sender.null());
             MUST(!task.from.unset());
         }
     }},
    {"recipients are kept in all that matters, in their order, also those that are there twice",
     [](StorePlace& place) {
         const auto store = leading(place);
         auto mail = letter("m");
         mail.to = odd_recipients();
         store->put(mail);
         const auto item = store->item("m");
         MUST(item.has_value());
         MUST(item->to.size() == mail.to.size());
         const auto given = claim_everywhere(*store);
         MUST(given.size() == mail.to.size());
         for (std::size_t i = 0; i < given.size(); ++i) {
             MUST(given[i].number == i);
             MUST(given[i].recipient.id == i + 1);
             MUST(given[i].attempts == 0);
             MUST(!given[i].warned);
             MUST(same(given[i].recipient, mail.to[i]));
             MUST(same(item->to[i].recipient, mail.to[i]));
         }
     }},
    {"a thousand recipients are kept, each by its number",
     [](StorePlace& place) {
         const auto store = leading(place);
         auto mail = letter("m");
         mail.to = recipients(1000, "example.org");
         store->put(mail);
         MUST(store->stats().recipients == 1000);
         const auto task = only(claim(*store));
         MUST(task.to.size() == 1000);
         for (const auto& to : task.to) MUST(to.recipient.local == "r" + std::to_string(to.number));
     }},
    {"a body is kept to the octet, whatever is in it and however large it is",
     [](StorePlace& place) {
         const auto store = leading(place);
         std::vector<std::string> texts{"", "\r\n", std::string(1, '\0'), std::string("a\0b\r\n.\r\n", 8)};
         for (std::size_t size :
              {1, 4096, 65'536, 131'071, 131'072, 131'073, 262'143, 262'144, 262'145, 1'000'000, 10 << 20})
             texts.push_back(binary(size));
         for (std::size_t i = 0; i < texts.size(); ++i) {
             auto mail = letter("t" + std::to_string(i));
             mail.text = Message(texts[i]);
             store->put(mail);
         }
         for (const auto& task : claim(*store))
             comes_out(*store, task, "Received: by us\r\n", texts.at(std::stoul(task.id.substr(1))));
         std::uint64_t octets = 0;
         for (const auto& text : texts) octets += text.size();
         MUST(store->stats().octets == octets);
     }},
    {"what is in front of a body is kept to the octet, too",
     [](StorePlace& place) {
         const auto store = leading(place);
         const std::vector<std::string> heads{"", "Received: x\r\n", "X: " + binary(300) + "\r\n",
                                              "X: " + std::string(100'000, 'x') + "\r\n"};
         for (std::size_t i = 0; i < heads.size(); ++i) {
             auto mail = letter("h" + std::to_string(i));
             mail.head = heads[i];
             mail.text = Message(binary(i * 100'000));
             store->put(mail);
         }
         for (const auto& task : claim(*store)) {
             const auto i = std::stoul(task.id.substr(1));
             comes_out(*store, task, heads.at(i), binary(i * 100'000));
         }
     }},
    {"a body that lies in a file is kept, be it where the store wants it or elsewhere, and stays readable to whoever "
     "has put it",
     [](StorePlace& place) {
         const auto store = leading(place);
         Net::SMTP::Options options;
         store->apply(options);
         options.check();
         int count = 0;
         for (const auto& folder : {options.spool_dir, std::string("/tmp"), std::string("/dev/shm")})
             for (std::size_t size : {0, 100, 200'000, 3'000'000}) {
                 const auto text = binary(size);
                 auto mail = letter("f" + std::to_string(count++));
                 mail.text = in_file(text, folder);
                 store->put(mail);
                 MUST(mail.text.view() == text);
                 const auto task = only(claim(*store));
                 comes_out(*store, task, mail.head, text);
                 MUST(finish(*store, task));
                 MUST(mail.text.view() == text);
             }
     }},
    {"one message can be put twice, and each is there without the other",
     [](StorePlace& place) {
         const auto store = leading(place);
         Net::SMTP::Options options;
         store->apply(options);
         for (const auto& text : {Message(binary(300'000)), in_file(binary(300'000), options.spool_dir)}) {
             auto mail = letter("one");
             mail.text = text;
             store->put(mail);
             mail.id = "two";
             store->put(mail);
             MUST(store->cancel("one") == Cancelled::found);
             const auto task = only(claim(*store));
             comes_out(*store, task, mail.head, binary(300'000));
             MUST(finish(*store, task));
         }
     }},
    {"what comes out is a message of one's own: nobody waits for an answer to it",
     [](StorePlace& place) {
         const auto store = leading(place);
         auto mail = letter("m");
         mail.text.custody().open(mail.to);
         store->put(mail);
         mail.text.custody().close();
         const auto text = store->text(only(claim(*store)));
         MUST(!text.custody().attached());
         MUST(text.sender_present());
         MUST(!store->look("m")->custody().attached());
     }},
    {"times are kept to the millisecond",
     [](StorePlace& place) {
         const auto store = leading(place);
         for (auto when : {QueueTime{}, QueueTime{1ms}, QueueTime{1'234'567'890'123ms}}) {
             auto mail = letter("m");
             mail.arrived = when;
             mail.due = when + 7ms;
             store->put(mail);
             MUST(store->item("m")->arrived == when);
             MUST(store->item("m")->to.front().due == when + 7ms);
             MUST(store->stats().oldest == when);
             MUST(store->due("example.org") == when + 7ms);
             const auto task = only(claim(*store));
             MUST(task.arrived == when);
             MUST(finish(*store, task));
         }
         const auto soon = queue_now() + 90min;
         store->put(letter("soon", soon));
         MUST(store->claim("example.org", soon - 1ms, 10).empty());
         MUST(only(store->claim("example.org", soon, 10)).id == "soon");
     }},
    {"ids are of 1 to 255 printable characters; nothing is kept under others",
     [](StorePlace& place) {
         const auto store = leading(place);
         std::vector<std::string> wrong{"",
                                        " ",
                                        "a b",
                                        "a\tb",
                                        "a\r\n",
                                        "\x7f",
                                        "\xc3\xbc",
                                        "a\x01",
                                        std::string("a\0b", 3),
                                        std::string(256, 'x')};
         for (const auto& id : wrong) MUST(refused([&] { store->put(letter(id)); }));
         MUST(store->items(0, 10).empty());
         const std::vector<std::string> right{"x", std::string(255, 'y'), "../../etc/x", "';drop", "a%_\\", "A", "a"};
         for (const auto& id : right) {
             store->put(letter(id));
             MUST(store->item(id)->id == id);
         }
         MUST(!store->item("AA") && !store->item("%") && !store->item("'"));
         const auto tasks = claim(*store);
         MUST(tasks.size() == right.size());
         for (const auto& task : tasks) MUST(store->text(task).view() == letter(task.id).text.view());
     }},
    {"an id that is there is refused and what is there stays; it is free again when the message is gone",
     [](StorePlace& place) {
         const auto store = leading(place);
         store->put(letter("m", {"first@example.org"}));
         MUST(refused([&] { store->put(letter("m", {"second@example.com"})); }));
         MUST(names(store->domains(std::nullopt, 10)) == std::vector<std::string>{"example.org"});
         const auto task = only(claim(*store));
         MUST(task.to.front().recipient.local == "first");
         MUST(refused([&] { store->put(letter("m", {"third@example.org"})); }));
         MUST(finish(*store, task));
         store->put(letter("m", {"fourth@example.org"}));
         MUST(only(claim(*store)).to.front().recipient.local == "fourth");
     }},
    {"mail without recipients, or that went into a sink, is refused and nothing of it kept",
     [](StorePlace& place) {
         const auto store = leading(place);
         MUST(refused([&] { store->put(letter("m", std::vector<std::string>())); }));
         auto sunk = letter("m");
         sunk.text = in_sink();
         MUST(refused([&] { store->put(sunk); }));
         MUST(store->items(0, 10).empty());
         MUST(!store->stats().oldest);
         MUST(store->domains(std::nullopt, 10).empty());
         store->put(letter("m"));
         MUST(claim(*store).size() == 1);
     }},
    {"settings are kept to the octet; one that is empty is not one that is not there",
     [](StorePlace& place) {
         const auto store = place.open();
         MUST(!store->setting("paused"));
         for (const auto& value : {std::string("yes"), std::string(), binary(300), std::string("'\"\\%")}) {
             store->set("paused", value);
             MUST(store->setting("paused") == value);
             MUST(place.open()->setting("paused") == value);
         }
         store->set("it's", "other");
         MUST(store->setting("paused") == "'\"\\%");
         MUST(!store->setting("PAUSED"));
     }},
};

}  // namespace test::stores
