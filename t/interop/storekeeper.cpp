// storekeeper -- a program that does with a store what it is told, to be killed and put into trouble by tests.
//
// usage: storekeeper FOLDER, or postgresql://... (which it waits for five seconds at a time); it says "ready", and then
// does a command on each line of its input:
//     put ID SIZE             puts a mail whose text follows from its id; "put ID" once that has returned
//     spool ID SIZE           the same with a text that lies in a file where the store wants it
//     early ID SIZE           the same, but says so first: what must never be
//     many PREFIX THREADS COUNT SIZE...   so many threads put so many mails each, of these sizes in turn; then "ok"
//     check                   "whole ID" or "torn ID" for each mail there is, then "ok"
//     deliver                 records all that is due as done, "done ID" for each; then "ok"
//     sweep                   "ok COUNT"; of a folder
// Whatever the store refuses is "no CODE STATUS ID", and what has no file to lie in is "no 452 - ID"; a line is one
// write.
#include <unistd.h>

#include <chrono>
#include <iostream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "../../Relay/PostgresStore.hpp"
#include "../../Relay/SqliteStore.hpp"
#include "../../Server/Content.hpp"
#include "../../Server/Files.hpp"

using namespace Net::SMTP;

namespace {

void say(const std::string& line) {
    const auto whole = line + "\n";
    if (write(1, whole.data(), whole.size()) != ssize_t(whole.size())) _exit(3);
}

// Of exactly that size where it is large enough for what begins it.
std::string text_of(const std::string& id, std::size_t size) {
    auto out = "Subject: " + id + "\r\n\r\n";
    for (std::size_t line = 0; out.size() < size; ++line) out += id + " line " + std::to_string(line) + "\r\n";
    out.resize(size);
    return out;
}

Message spooled(const std::string& text, const std::string& folder) {
    auto content = std::make_shared<Content>(nullptr);
    content->file = unnamed_file(folder);
    write_all(content->file.get(), text.data(), text.size());
    content->size = text.size();
    return Message(content);
}

// Says what the store refuses, and what nobody may hear from it.
template <class Action>
bool tried(const std::string& id, Action action) {
    try {
        action();
        return true;
    } catch (const StoreError& e) {
        say("no " + std::to_string(e.reply().code) + " " + e.reply().status + " " + id + " " + e.what());
    } catch (const std::exception& e) {
        say("thrown " + id + " " + e.what());
    }
    return false;
}

void put(Store& store, const std::string& id, Message text) {
    QueuedMail mail;
    mail.id = id;
    mail.from = Sender("anna@example.org");
    mail.to = {Recipient("bert@example.test"), Recipient("carl@example.test")};
    mail.head = "Received: by the storekeeper\r\n";
    mail.text = std::move(text);
    mail.arrived = mail.due = queue_now();
    if (tried(id, [&] { store.put(mail); })) say("put " + id);
}

void many(Store& store, std::istream& words) {
    std::string prefix;
    int threads = 0, count = 0;
    words >> prefix >> threads >> count;
    std::vector<std::size_t> sizes;
    for (std::size_t size; words >> size;) sizes.push_back(size);
    std::vector<std::jthread> all;
    for (int t = 0; t < threads; ++t)
        all.emplace_back([&, t] {
            for (int i = 0; i < count; ++i) {
                const auto id = prefix + "." + std::to_string(t) + "." + std::to_string(i);
                put(store, id, Message(text_of(id, sizes.at(std::size_t(t + i) % sizes.size()))));
            }
        });
    all.clear();
    say("ok");
}

void check(Store& store) {
    for (std::vector<QueueItem> page; !(page = store.items(page.empty() ? 0 : page.back().message, 500)).empty();)
        for (const auto& item : page)
            tried(item.id, [&] {
                const auto found = store.look(item.id);
                const auto wanted = "Received: by the storekeeper\r\n" + text_of(item.id, item.size);
                const bool whole = found && found->view() == wanted && item.to.size() == 2;
                say((whole ? "whole " : "torn ") + item.id);
            });
    say("ok");
}

void deliver(Store& store) {
    if (!store.lead()) return say("no lead");
    for (std::vector<QueueTask> tasks; !(tasks = store.claim("example.test", queue_now(), 100)).empty();)
        for (const auto& task : tasks) {
            std::vector<QueueVerdict> verdicts;
            for (const auto& to : task.to) verdicts.push_back({.number = to.number, .done = true});
            if (store.text(task).view() != text_of(task.id, task.size)) say("torn " + task.id);
            if (store.record(task, verdicts, {})) say("done " + task.id);
        }
    say("ok");
}

void obey(Store& store, const std::string& line) {
    std::istringstream words(line);
    std::string command, id;
    std::size_t size = 0;
    words >> command;
    if (command == "many") return many(store, words);
    if (command == "check") return check(store);
    if (command == "deliver") return deliver(store);
    if (command == "sweep") return say("ok " + std::to_string(dynamic_cast<SqliteStore&>(store).sweep()));
    words >> id >> size;
    if (command == "early") say("put " + id);
    if (command != "spool") return put(store, id, Message(text_of(id, size)));
    Net::SMTP::Options options;
    store.apply(options);
    std::optional<Message> text;
    try {
        text = spooled(text_of(id, size), options.spool_dir);
    } catch (const std::system_error& e) {
        return say("no 452 - " + id + " " + e.what());
    }
    put(store, id, *text);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    const std::string where = argv[1];
    std::unique_ptr<Store> store;
    if (where.starts_with("postgresql:"))
        store = std::make_unique<PostgresStore>(where, PostgresStore::Options{.time_out = std::chrono::seconds(5)});
    else store = std::make_unique<SqliteStore>(where);
    say("ready");
    for (std::string line; std::getline(std::cin, line);) tried("*", [&] { obey(*store, line); });
}
